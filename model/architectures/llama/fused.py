"""The Llama family with operators of onnxruntime for rotation and activation, each of which is one node then.

Operators of com.microsoft are defined in onnxruntime's docs/ContribOperators.md. RotaryEmbedding looks cosines and
sines up by position; here each of the call's tokens has a row of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx_ir as ir

from model.architecture import GraphSource
from model.builder import MICROSOFT, Builder

from . import graph
from .graph import GraphForm


def unsupported(config: Mapping[str, Any]) -> str | None:  # noqa: ARG001
    """Say why a configuration cannot be expressed in fused operators: each can."""
    return None


def build(source: GraphSource) -> ir.Model:
    """Return the model with the ports of the contract."""
    return graph.build(source, FORM, source.config)


def _turn(own: Builder, ids: ir.Value, cosine: ir.Value, sine: ir.Value) -> Sequence[ir.Value]:
    """The row of each token, int64 [batch, sequence], and rows of cosines and sines, float32 [tokens, head_dim / 2]."""
    bounds = [own.scalar("zero", 0), own.op("Size", [ids], "tokens"), own.scalar("one", 1)]
    counted = own.op("Range", bounds, "tokens.counted")
    rows = own.op("Reshape", [counted, own.op("Shape", [ids], "tokens.shape")], "rows_of_tokens")
    return rows, *(own.op("Flatten", [one], f"{one.name}.rows", {"axis": 3}) for one in (cosine, sine))


def _rotated(own: Builder, value: ir.Value, turn: Sequence[ir.Value], name: str) -> ir.Value:
    return own.op("RotaryEmbedding", [value, *turn], name, domain=MICROSOFT)


def _silu(own: Builder, value: ir.Value, name: str) -> ir.Value:
    return own.op("QuickGelu", [value], name, {"alpha": 1.0}, domain=MICROSOFT)


FORM = GraphForm(_turn, _rotated, _silu)
