"""Qwen2 and Qwen3 as llama.cpp reads them: the numbers of a pair lie half a head apart, as in the checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from model.architectures.llama import gguf as llama
from model.architectures.llama.config import values_of

from .config import as_llama

TOKENIZER = ("gpt2", "qwen2")


def unsupported(config: Mapping[str, Any]) -> str | None:
    """Return why llama.cpp's graph does not compute a configuration; None when it does."""
    if config["model_type"] == "qwen3" and as_llama(config).get("attention_bias"):
        return "llama.cpp's Qwen3 has no biases in attention"
    return llama.unsupported(as_llama(config))


def writer(config: Mapping[str, Any], weights: Mapping[str, np.ndarray], path: Path) -> Any:
    """Return a GGUFWriter that holds the model's facts and tensors."""
    return llama.written(str(config["model_type"]), values_of(as_llama(config)), weights, path)
