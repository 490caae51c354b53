"""Quantized weights against the reference's: which blocks err by more than rounding to their own grid explains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from verify.check import Array
from verify.explain.graph import PART, Graph

STEP = 1.0  # root mean square error of a block in steps of its grid; rounding to nearest gives 0.29
OUTLIER = 4.0  # times the median of the same weight's blocks


def wrong_blocks(graph: Graph, node: Any, known: Mapping[str, str], parameters: Mapping[str, Array]) -> Iterator[str]:
    """A line about a MatMulNBits or GatherBlockQuantized node whose weight has blocks that no rounding explains."""
    if node.op_type not in ("MatMulNBits", "GatherBlockQuantized"):
        return
    places = (1, 2, 3) if node.op_type == "MatMulNBits" else (0, 2, 3)
    names = [_origin(graph, node.input[i]) if i < len(node.input) and node.input[i] else "" for i in places]
    codes, scales, points = names
    if codes not in known or PART.search(codes) or scales not in graph.constants:
        return
    have = {attribute.name: attribute.i for attribute in node.attribute}
    steps = graph.array(scales).astype(np.float32)
    packed = graph.array(codes).reshape(-1, 1, have["block_size"] * have["bits"] // 8)
    rows, wanted = _as_stored(parameters[known[codes]], len(packed), have["block_size"])
    zeros = _zero_points(graph, points, have["bits"], rows)
    if wanted is None or steps.size != len(packed) or zeros is None:
        return
    error = (unpack(packed[:, 0], have["bits"]) - zeros) - wanted / steps.reshape(-1, 1)
    rms = np.sqrt(np.mean(error**2, axis=1))
    wrong = np.flatnonzero(~(rms <= max(STEP, OUTLIER * float(np.median(rms)))))
    if len(wrong):
        row, block = divmod(int(wrong[np.argmax(rms[wrong])]), len(packed) // rows)
        yield (
            f"{len(wrong)} of {len(rms)} blocks of {known[codes]} err by more than rounding explains; the worst, row "
            f"{row} block {block}, by {rms[wrong].max():.3g} steps of its grid (median {np.median(rms):.2g})"
        )


def unpack(packed: Array, bits: int) -> Array:
    """Codes float32 [blocks, elements] from uint8 [blocks, bytes], the lowest bits of a byte first."""
    if bits not in (2, 4, 8):
        raise ValueError(f"{bits} bits")
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    codes: Array = (packed[..., None] >> shifts) & np.uint8((1 << bits) - 1)
    return codes.reshape(len(packed), -1).astype(np.float32)


def _as_stored(weight: Array, blocks: int, block: int) -> tuple[int, Array | None]:
    """The true weight as the codes are stored: rows, and float32 [blocks, block]; None if it does not fit."""
    for value in (np.asarray(weight).T, np.asarray(weight)):
        per_row = -(-value.shape[1] // block)
        if per_row * len(value) == blocks and value.shape[1] % block == 0:
            # A product's weights are taken for transposed, square ones too; the vocabulary's table fits only as it is.
            return len(value), value.reshape(blocks, block)
    return 1, None


def _zero_points(graph: Graph, name: str, bits: int, rows: int) -> Array | None:
    """Zero points float32, [blocks, 1] or one for all (the middle of the grid)."""
    if not name:
        return np.full((1, 1), 2.0 ** (bits - 1), np.float32)
    if name not in graph.constants:
        return None
    value = graph.array(name)
    if value.dtype != np.uint8:
        return value.astype(np.float32).reshape(-1, 1)
    return unpack(value.reshape(rows, -1), bits).reshape(-1, 1)


def _origin(graph: Graph, name: str) -> str:
    while name in graph.makers and graph.makers[name].op_type == "Reshape":
        name = graph.makers[name].input[0]
    return name
