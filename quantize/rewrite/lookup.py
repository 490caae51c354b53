"""Rows of a quantized table, looked up and made numbers by operators of ONNX itself.

onnxruntime's own GatherBlockQuantized does the same in one node, but the build of onnxruntime-web that Transformers.js
loads by itself has no kernel of it for the processor (decision 0008), and q8 is what browsers ask for. All steps are
exact: codes are whole numbers below 256, and (code - zero point) * scale is rounded once, as there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir

from quantize.numerics.blocks import Blocks, Floats
from quantize.rewrite.products import Operation, Spot, Stored, Tier, initializer, insert, replace_node, store, times
from quantize.rewrite.weights import Lookup, Weight


def place(model: ir.Model, weight: Weight, blocks: Blocks, level: int, centre: Floats | None = None) -> None:
    """Replace every use of a weight, products and lookups alike, by its one quantized form; see `rewrite.store`."""
    tiers = store(model, weight, blocks, level, centre)
    for lookup in weight.lookups:
        look_up(model, lookup, tiers)


def look_up(model: ir.Model, lookup: Lookup, tiers: Sequence[Tier]) -> None:
    """Put the lookup in the quantized table in the place of the one in the float table."""
    site = Spot(model, lookup.node, str(lookup.node.name))
    blocks = tiers[0].blocks
    rank = 2 if lookup.indices is None or lookup.indices.shape is None else len(lookup.indices.shape)
    if len(tiers) == 1:
        whole = _rows(site, lookup.indices, tiers[0], rank)
    else:
        whole = _chosen(site, lookup.indices, tiers, rank)
    if blocks.padded != blocks.columns:
        wide = insert(site.node, whole, f"{site.name}/padded")
        bounds = {"start": 0, "end": blocks.columns, "axis": -1}
        limits = [initializer(model, f"{site.name}.{key}", np.array([at], np.int64)) for key, at in bounds.items()]
        whole = Operation("Slice", [wide, *limits], domain="")
    replace_node(site.node, whole)


def _chosen(site: Spot, indices: ir.Value | None, tiers: Sequence[Tier], rank: int) -> Operation:
    """Rows of the first tier or of the rest, by the index. Both are read, at a row that each has."""
    first, rest = tiers
    count = len(first.blocks.scales)
    border, last = (initializer(site.model, f"row.{row}", np.array(row, np.int64)) for row in (count, count - 1))
    zero = initializer(site.model, "row.0", np.array(0, np.int64))
    beyond = site.op("Max", "beyond", site.op("Sub", "after", indices, border), zero)
    places = (site.op("Min", "within", indices, last), beyond)
    rows = []
    for tier, at in zip((first, rest), places, strict=True):
        own = replace(site, name=f"{site.name}{tier.label}")
        rows.append(insert(site.node, _rows(own, at, tier, rank), f"{own.name}/rows"))
    below = site.op("Less", "below", indices, border)
    wide = site.op("Unsqueeze", "chosen", below, site.numbers("axis.last", [-1]))
    return Operation("Where", [wide, *rows], domain="")


def _rows(site: Spot, indices: ir.Value | None, tier: Tier, rank: int) -> Operation:
    """Rows of one tier, padding included, float32 [..., blocks * block]."""
    shapes = Shapes(rank, tier.blocks.scales.shape[1], tier.blocks.form.block)
    rows = [_row(replace(site, name=f"{site.name}{item.label}"), indices, item, shapes) for item in tier.parts]
    if len(rows) == 1:
        return rows[0]
    names = [f"{site.name}{item.label}" for item in tier.parts]
    terms = [insert(site.node, row, f"{name}/row") for row, name in zip(rows, names, strict=True)]
    for place, (item, name) in enumerate(zip(tier.parts, names, strict=True)):
        if item.part.factor != 1:
            terms[place] = insert(site.node, times(site.model, terms[place], item), f"{name}/Mul")
    return Operation("Add", terms, domain="")


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
