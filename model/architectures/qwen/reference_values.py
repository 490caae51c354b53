"""The true values inside a call of Qwen, by the names of the graph and by PyTorch's module paths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from model.architectures.llama import reference_values as llama
from model.truth import Call, Truth

from .config import as_llama


def named(call: Call) -> dict[str, Truth]:
    """Return every tensor that has a name."""
    return llama.named(_as_llama(call))


def spelt_out(call: Call, layer: int) -> Iterator[tuple[str, Truth]]:
    """Yield attention and activation of one layer step by step."""
    return llama.spelt_out(_as_llama(call), layer)


def scale(config: Mapping[str, Any], layer: int) -> float:
    """Return what the products of queries and keys are multiplied with."""
    return llama.scale(as_llama(config), layer)


def _as_llama(call: Call) -> Call:
    return replace(call, config=as_llama(call.config))
