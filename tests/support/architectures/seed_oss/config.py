"""Seed-OSS: what Llama accepts, where its own switch for biases is off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from model.architectures.llama import config as llama
from model.architectures.llama.config import (
    ALIASES,
    EPSILON,
    HEADS,
    buffer_bytes,
    canonical_name,
    complete,
    tensors,
)
from model.contract import Dimensions
from pipeline.errors import InputError

__all__ = ["ALIASES", "EPSILON", "HEADS", "buffer_bytes", "canonical_name", "complete", "dimensions", "tensors"]


def dimensions(config: Mapping[str, Any], where: object) -> Dimensions:
    """Return a config's sizes; InputError names the key for a value that no graph is written for."""
    if config.get("attention_bias", True):
        raise InputError("config key attention_bias is true", where=where, hint="it must be false")
    if config.get("architectures", ["SeedOssForCausalLM"]) != ["SeedOssForCausalLM"]:
        raise InputError("config key architectures names another class", where=where, hint="name SeedOssForCausalLM")
    plain = {key: value for key, value in config.items() if key != "architectures"}
    return llama.dimensions({**plain, "model_type": "llama"}, where)
