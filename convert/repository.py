"""The files beside the graph, in the Hub layout that Transformers.js, Optimum and transformers all load."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convert import generation
from model import genai_config, guard
from model.checkpoint import read_object, refuse_pointer
from model.contract import Dimensions
from model.generation import FILE
from pipeline.errors import InputError

DROPPED_CONFIG = ("_name_or_path", "transformers_version", "task_specific_params")  # beside what model.guard leaves out
# What a machine left behind, what would run code, and (keys ending in _file) what names files anywhere on this one.
DROPPED_TOKENIZER = (*guard.IGNORED, "auto_map", "cache_dir", "local_files_only", "name_or_path", "is_local", "backend")
# transformers 5 saves this name for a tokenizer that has no class; neither transformers 4 nor Transformers.js knows it.
CLASSES = {"TokenizersBackend": "PreTrainedTokenizerFast"}
TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "merges.txt", "added_tokens.json", "chat_template.jinja")


def with_defaults(config: Mapping[str, Any], defaults: Mapping[str, str]) -> dict[str, Any]:
    """The config, telling Transformers.js which variant to load on a device where its user names none."""
    if not defaults:
        return dict(config)
    devices = {device: {"dtype": variant} for device, variant in defaults.items()}
    return {**config, "transformers.js_config": {"device_config": devices}}


def write(
    source: Path, target: Path, config: Mapping[str, Any], dims: Dimensions, *, allow_padded_vocabulary: bool
) -> None:
    """Write config, generation config and tokenizer files; InputError for a tokenizer that does not fit the model."""
    kept = {key: value for key, value in guard.plain(config).items() if key not in DROPPED_CONFIG}
    _write_json(target / "config.json", {**kept, "dtype": "float32"})
    settings = _tokenizer_config(source)
    tokenizer = _tokenizer(source, target, settings)
    _check_vocabulary(len(tokenizer), dims, source, allow_padded=allow_padded_vocabulary)
    if not (target / "tokenizer.json").is_file():
        tokenizer.backend_tokenizer.save(str(target / "tokenizer.json"))
    special: dict[str, Any] = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    if tokenizer.extra_special_tokens:
        special["additional_special_tokens"] = [str(token) for token in tokenizer.extra_special_tokens]
    if "eos_token" not in special:
        hint = "add eos_token to tokenizer_config.json: generation could not end, ragged batches could not be padded"
        raise InputError("tokenizer has no eos_token", where=source, hint=hint)
    special.setdefault("pad_token", special["eos_token"])
    _write_json(target / "special_tokens_map.json", special)
    # As the loaders want it: plain strings (an object throws in Transformers.js), a pad token, the real context.
    named = settings.get("tokenizer_class", type(tokenizer).__name__)
    settings |= {"tokenizer_class": CLASSES.get(named, named), **special, "model_max_length": dims.context}
    _write_json(target / "tokenizer_config.json", settings)
    settings = generation.written(source, dims, begin=tokenizer.bos_token_id, pad=tokenizer.eos_token_id)
    _write_json(target / FILE, settings)
    _write_json(target / genai_config.FILE, genai_config.config(dims, settings, "fp32"))


def _tokenizer(source: Path, target: Path, settings: dict[str, Any]) -> Any:
    """The tokenizer, loaded from what `target` will hold, because the source's settings may name other files."""
    from transformers import AutoTokenizer

    for name in (*TOKENIZER_FILES, "special_tokens_map.json"):
        if (source / name).is_file():
            refuse_pointer(source / name)
            shutil.copyfile(source / name, target / name)
    _write_json(target / "tokenizer_config.json", settings)
    try:
        tokenizer = AutoTokenizer.from_pretrained(target, use_fast=True, trust_remote_code=False, local_files_only=True)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the tokenizers library raises bare Exception, and a panic in Rust, which is none
        hint = "fetch tokenizer.json (or vocab.json and merges.txt) again"
        raise InputError(f"tokenizer cannot be loaded: {error}", where=source, hint=hint) from error
    if not tokenizer.is_fast:  # such as ByT5's
        what = f"{type(tokenizer).__name__} cannot be written as tokenizer.json, which the loaders read"
        raise InputError(what, where=source, hint="use a checkpoint whose tokenizer has a tokenizer.json of its own")
    return tokenizer


def _check_vocabulary(size: int, dims: Dimensions, where: Path, *, allow_padded: bool) -> None:
    if size == dims.vocabulary or (allow_padded and size < dims.vocabulary):
        return
    hint = "use the tokenizer that belongs to the model"
    if size < dims.vocabulary:
        hint += ", or set source.padded_vocabulary = true if the embedding is padded on purpose"
    what = f"tokenizer has {size} tokens, config key vocab_size is {dims.vocabulary}"
    raise InputError(what, where=where, hint=hint)


def _tokenizer_config(source: Path) -> dict[str, Any]:
    path = source / "tokenizer_config.json"
    config = read_object(path) if path.is_file() else {}
    kept = {key: value for key, value in config.items() if key not in DROPPED_TOKENIZER and not key.endswith("_file")}
    if isinstance(kept.get("extra_special_tokens"), list):  # transformers 5's word, where 4 wants an object
        kept["additional_special_tokens"] = kept.pop("extra_special_tokens")
    return kept


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
