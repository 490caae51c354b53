"""The Llama family with ONNX's own operators only, for runtimes that have no others.

The rotation swaps the halves of a head and gives the sine of the first half the other sign.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from model.architecture import GraphSource
from model.builder import Builder

from . import graph
from .graph import GraphForm


def build(source: GraphSource) -> ir.Model:
    """Return the model with the ports of the contract."""
    return graph.build(source, FORM, source.config)


def _turn(own: Builder, ids: ir.Value, cosine: ir.Value, sine: ir.Value) -> Sequence[ir.Value]:  # noqa: ARG001
    """Cosine and signed sine of both numbers of each pair, float32 [batch, 1, sequence, head_dim]."""
    other = own.op("Neg", [sine], "sine.negative")
    both = own.op("Concat", [cosine, cosine], "cosine.both", {"axis": -1})
    return both, own.op("Concat", [other, sine], "sine.signed", {"axis": -1})


def _rotated(own: Builder, value: ir.Value, turn: Sequence[ir.Value], name: str) -> ir.Value:
    parts = [f"{name}.{part}" for part in ("first", "second")]
    first, second = own.ops("Split", [value], parts, {"axis": -1, "num_outputs": 2})
    swapped = own.op("Concat", [second, first], f"{name}.swapped", {"axis": -1})
    along = own.op("Mul", [value, turn[0]], f"{name}.along")
    across = own.op("Mul", [swapped, turn[1]], f"{name}.across")
    return own.op("Add", [along, across], name)


def _silu(own: Builder, value: ir.Value, name: str) -> ir.Value:
    return own.op("Mul", [value, own.op("Sigmoid", [value], f"{name}.sigmoid")], name)


FORM = GraphForm(_turn, _rotated, _silu)
