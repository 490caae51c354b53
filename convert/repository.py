"""The files beside the graph, in the Hub layout that Transformers.js, Optimum and transformers all load."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from artifact.canonical import read_json
from artifact.errors import InputError
from artifact.signature import Dimensions

SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token")
DROPPED_CONFIG = ("_name_or_path", "torch_dtype", "dtype", "transformers_version", "task_specific_params")
TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "merges.txt", "added_tokens.json")


def write(source: Path, target: Path, dims: Dimensions, *, allow_padded_vocabulary: bool) -> None:
    """Write config, generation config and tokenizer files; InputError for a tokenizer that does not fit the model."""
    _write_json(target / "config.json", _config(source))
    tokenizer = _tokenizer(source)
    _check_vocabulary(len(tokenizer), dims, source, allow_padded=allow_padded_vocabulary)
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
    if not (target / "tokenizer.json").is_file():
        tokenizer.backend_tokenizer.save(str(target / "tokenizer.json"))
    special = {name: str(getattr(tokenizer, name)) for name in SPECIAL if getattr(tokenizer, name) is not None}
    if "eos_token" not in special:
        hint = "add eos_token to tokenizer_config.json: generation could not end, ragged batches could not be padded"
        raise InputError("tokenizer has no eos_token", where=source, hint=hint)
    special.setdefault("pad_token", special["eos_token"])
    _write_json(target / "special_tokens_map.json", special)
    _write_json(target / "tokenizer_config.json", _tokenizer_config(source, special, dims))
    _write_json(target / "generation_config.json", _generation_config(source, tokenizer))


def _config(source: Path) -> dict[str, Any]:
    config = {key: value for key, value in read_json(source / "config.json").items() if key not in DROPPED_CONFIG}
    return {**config, "dtype": "float32"}


def _tokenizer(source: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(source, use_fast=True, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # the tokenizers library raises bare Exception for a malformed file
        hint = "fetch tokenizer.json (or vocab.json and merges.txt) again"
        raise InputError(f"tokenizer cannot be loaded: {error}", where=source, hint=hint) from error


def _check_vocabulary(size: int, dims: Dimensions, where: Path, *, allow_padded: bool) -> None:
    if size == dims.vocabulary or (allow_padded and size < dims.vocabulary):
        return
    hint = "use the tokenizer that belongs to the model"
    if size < dims.vocabulary:
        hint += ", or set source.padded_vocabulary = true if the embedding is padded on purpose"
    what = f"tokenizer has {size} tokens, config key vocab_size is {dims.vocabulary}"
    raise InputError(what, where=where, hint=hint)


def _tokenizer_config(source: Path, special: dict[str, str], dims: Dimensions) -> dict[str, Any]:
    """As the loaders want it: plain strings (an object throws in Transformers.js), a pad token, the real context."""
    path = source / "tokenizer_config.json"
    config = dict(read_json(path)) if path.is_file() else {"tokenizer_class": "GPT2Tokenizer"}
    for key in ("name_or_path", "auto_map"):
        config.pop(key, None)
    return {**config, **special, "model_max_length": dims.context}


def _generation_config(source: Path, tokenizer: Any) -> dict[str, Any]:
    """The source's, without what belongs to a caller (do_sample) or to a library (its version)."""
    path = source / "generation_config.json"
    config = dict(read_json(path)) if path.is_file() else {}
    for key in ("do_sample", "_from_model_config", "transformers_version"):
        config.pop(key, None)
    config.setdefault("eos_token_id", tokenizer.eos_token_id)
    config.setdefault("bos_token_id", tokenizer.bos_token_id)
    config.setdefault("pad_token_id", tokenizer.eos_token_id)
    return config


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
