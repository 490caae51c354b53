"""State what Qwen's parts are called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from model.architectures.llama import landmarks as llama
from model.architectures.llama.landmarks import NORM_EPSILON
from model.landmarks import Kind, Landmarks

from .config import as_llama

__all__ = ["MODULES", "NORM_EPSILON", "landmarks"]
MODULES: Mapping[str, Kind] = {"Qwen2RotaryEmbedding": Kind.OTHER, "Qwen3RotaryEmbedding": Kind.OTHER}


def landmarks(config: Mapping[str, Any]) -> Landmarks:
    """Return the names of a model's parts by their role."""
    return llama.landmarks(as_llama(config))
