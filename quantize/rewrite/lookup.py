"""Rows of a quantized table, looked up and made numbers by operators of ONNX itself.

onnxruntime's own GatherBlockQuantized does the same in one node, but the build of onnxruntime-web that Transformers.js
loads by itself has no kernel of it for the processor (decision 0008), and q8 is what browsers ask for. All steps are
exact: codes are whole numbers below 256, and (code - zero point) * scale is rounded once, as there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from quantize.numerics.blocks import Blocks
from quantize.rewrite.products import Operation, Stored, initializer, insert, replace_node, store, times
from quantize.rewrite.weights import Lookup, Weight


@dataclass(frozen=True)
class Spot:
    """State where nodes are put: before one node of a model, under one name."""

    model: ir.Model
    node: ir.Node
    name: str

    def op(self, kind: str, name: str, *inputs: ir.Value | None, **attributes: Any) -> ir.Value:
        """A node of an operator of ONNX; its output is called like it."""
        return insert(self.node, Operation(kind, inputs, attributes, domain=""), f"{self.name}/{name}")

    def numbers(self, name: str, values: Sequence[int]) -> ir.Value:
        """A constant of int64 numbers."""
        return initializer(self.model, name, np.array(values, np.int64))

    def number(self, value: float) -> ir.Value:
        """A constant float32 number."""
        return initializer(self.model, f"number.{value:g}", np.array(value, np.float32))


def place(model: ir.Model, weight: Weight, blocks: Blocks, level: int) -> None:
    """Replace every use of a weight, products and lookups alike, by its one quantized form; see `rewrite.store`."""
    stored = store(model, weight, blocks, level)
    for lookup in weight.lookups:
        look_up(model, lookup, blocks, stored)


def look_up(model: ir.Model, lookup: Lookup, blocks: Blocks, stored: Sequence[Stored]) -> None:
    """Put the lookup in the quantized table in the place of the one in the float table."""
    node, name = lookup.node, str(lookup.node.name)
    rank = 2 if lookup.indices is None or lookup.indices.shape is None else len(lookup.indices.shape)
    shapes = Shapes(rank, blocks.scales.shape[1], blocks.form.block)
    rows = [_row(Spot(model, node, f"{name}{item.label}"), lookup.indices, item, shapes) for item in stored]
    whole = rows[0]
    if len(rows) > 1:
        terms = [insert(node, row, f"{name}{item.label}/row") for row, item in zip(rows, stored, strict=True)]
        for place, item in enumerate(stored):
            if item.part.factor != 1:
                terms[place] = insert(node, times(model, terms[place], item), f"{name}{item.label}/Mul")
        whole = Operation("Add", terms, domain="")
    if blocks.padded != blocks.columns:
        wide = insert(node, whole, f"{name}/padded")
        bounds = {"start": 0, "end": blocks.columns, "axis": -1}
        limits = [initializer(model, f"{name}.{key}", np.array([at], np.int64)) for key, at in bounds.items()]
        whole = Operation("Slice", [wide, *limits], domain="")
    replace_node(node, whole)


@dataclass(frozen=True)
class Shapes:
    """Shapes for Reshape. Each begins with `rank` zeros, which keep the indices' axes."""

    rank: int
    count: int  # blocks in a row
    block: int

    def of(self, *own: int) -> list[int]:
        """The indices' axes, then these."""
        return [*[0] * self.rank, *own]


def _row(site: Spot, indices: ir.Value | None, item: Stored, shapes: Shapes) -> Operation:
    """(code - zero point) * scale, float32 [..., blocks * block]."""
    bits, count = item.part.bits, shapes.count
    packed = site.op("Gather", "codes", item.codes, indices)
    last = site.numbers("axis.last", [-1])
    scales = site.op("Unsqueeze", "scales", site.op("Gather", "scale", item.scales, indices), last)
    shape = shapes.of(count, shapes.block)
    points = item.part.zero_points
    if item.zero_points is None or points is None:
        steps = _unpacked(site, packed, bits, "step", shape, less=1 << (bits - 1))
    else:
        codes = _unpacked(site, packed, bits, "code", shape)
        packed = site.op("Gather", "zeros", item.zero_points, indices)
        zeros = _unpacked(site, packed, bits, "zero", shapes.of(points.shape[1] * 8 // bits))
        limits = (site.numbers("at.0", [0]), site.numbers(f"at.{count}", [count]), last)
        zeros = site.op("Unsqueeze", "zero_points", site.op("Slice", "zero", zeros, *limits), last)
        steps = site.op("Sub", "steps", codes, zeros)
    values = site.op("Mul", "values", steps, scales)
    return Operation(
        "Reshape", [values, site.numbers(f"{site.name}.width", shapes.of(count * shapes.block))], domain=""
    )


def _unpacked(  # noqa: PLR0913, PLR0917  # what is unpacked, how, and into what
    site: Spot, packed: ir.Value, bits: int, name: str, shape: Sequence[int], less: int = 0
) -> ir.Value:
    """The codes in uint8 `packed` less a number, as float32 of this shape.

    A byte of 8 / bits codes, the first of them in its lowest bits, is a row of a small table.
    """
    if bits == 8:
        codes = site.op("Cast", f"{name}/numbers", packed, to=ir.DataType.FLOAT)
        return site.op("Sub", f"{name}/less", codes, site.number(less)) if less else codes
    table = initializer(site.model, f"unpacked.{bits}.less.{less}", _table(bits) - np.float32(less))
    rows = site.op("Gather", f"{name}/rows", table, site.op("Cast", f"{name}/byte", packed, to=ir.DataType.INT32))
    return site.op("Reshape", f"{name}/flat", rows, site.numbers(f"{site.name}.{name}.shape", shape))


def _table(bits: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The codes in every possible byte, float32 [256, 8 / bits]."""
    places = np.arange(0, 8, bits)
    return ((np.arange(256)[:, None] >> places) & ((1 << bits) - 1)).astype(np.float32)
