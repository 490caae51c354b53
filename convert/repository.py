"""The files beside the graph, in the Hub layout that Transformers.js, Optimum and transformers all load."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convert import tokenizer_files
from convert.tokenizer_files import write_json
from model import genai_config
from model.checkpoint import FETCH_AGAIN, refuse_pointer
from model.contract import Dimensions
from pipeline.canonical import read_json
from pipeline.errors import InputError

DROPPED_CONFIG = ("_name_or_path", "torch_dtype", "dtype", "transformers_version", "task_specific_params")


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
    kept = {key: value for key, value in config.items() if key not in DROPPED_CONFIG}
    write_json(target / "config.json", {**kept, "dtype": "float32"})
    tokenizer = tokenizer_files.write(source, target, dims, allow_padded_vocabulary=allow_padded_vocabulary)
    generation = _generation_config(source, tokenizer, config)
    write_json(target / "generation_config.json", generation)
    write_json(target / genai_config.FILE, genai_config.config(dims, generation, "fp32"))


def _generation_config(source: Path, tokenizer: Any, model: Mapping[str, Any]) -> dict[str, Any]:
    """The source's, without what belongs to a caller (do_sample) or to a library (its version).

    Where the source has none, tokens are those of its config.json, as transformers has it, or else the tokenizer's.
    """
    path = source / "generation_config.json"
    stated = {key: model[key] for key in ("eos_token_id", "bos_token_id") if model.get(key) is not None}
    config = _read_object(path) if path.is_file() else stated
    for key in ("do_sample", "_from_model_config", "transformers_version"):
        config.pop(key, None)
    config.setdefault("eos_token_id", tokenizer.eos_token_id)
    config.setdefault("bos_token_id", tokenizer.bos_token_id)
    config.setdefault("pad_token_id", tokenizer.eos_token_id)
    return config


def _read_object(path: Path) -> dict[str, Any]:
    refuse_pointer(path)
    value = read_json(path)
    if not isinstance(value, dict):
        raise InputError("not a JSON object", where=path, hint=FETCH_AGAIN)
    return dict(value)
