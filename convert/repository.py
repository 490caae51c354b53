"""The files beside the graph, in the Hub layout that Transformers.js, Optimum and transformers all load."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convert import generation, tokenizer_files
from model import genai_config, guard
from model.contract import Dimensions
from model.generation import FILE
from pipeline.canonical import write_json

DROPPED_CONFIG = ("_name_or_path", "transformers_version", "task_specific_params")  # beside what model.guard leaves out


def write(
    source: Path, target: Path, config: Mapping[str, Any], dims: Dimensions, *, allow_padded_vocabulary: bool
) -> None:
    """Write config, generation config and tokenizer files; InputError for a tokenizer that does not fit the model."""
    kept = {key: value for key, value in guard.plain(config).items() if key not in DROPPED_CONFIG}
    write_json(target / "config.json", {**kept, "dtype": "float32"})
    tokenizer = tokenizer_files.write(source, target, dims, allow_padded_vocabulary=allow_padded_vocabulary)
    settings = generation.written(source, dims, begin=tokenizer.bos_token_id, pad=tokenizer.eos_token_id)
    write_json(target / FILE, settings)
    write_json(target / genai_config.FILE, genai_config.config(dims, settings, "fp32"))
