"""Seed-OSS of any size."""

from __future__ import annotations

from typing import Any

from model.architectures.llama import tiny as llama
from model.contract import Dimensions


def config(dims: Dimensions, end: int) -> dict[str, Any]:
    """Return a config of these sizes, whose texts begin and end with the token `end`."""
    return {**llama.config(dims, end), "model_type": "seed_oss", "attention_bias": False}
