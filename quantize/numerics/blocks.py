"""A weight matrix in blocks: codes, a scale and a zero point for each block, and the bytes that the runtime reads.

The packing is that of onnxruntime 1.31.1's MatMulNBits at 2, 4 and 8 bits; lookups in a table take the same bytes apart
(`quantize.rewrite.lookup`). There is no kernel for 6 bits, but an exact 6-bit code is the sum of a 4-bit and a 2-bit
one under the same scale:

    code = 4 * high + low        code - (4 * z + 2) = 4 * (high - z) + (low - 2)

so two products, the first with four times the input, are one product with 6-bit weights. The 2-bit part has the implied
zero point 2, so a 6-bit zero point is 4 * z + 2 with z in 0..15.

A vocabulary's table may have two bits more in its first rows, its frequent tokens (`Form.frequent`): two tiers of rows,
each a matrix of its own in the file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

BITS = (2, 4, 6, 8)
TIERED = (4, 6, 8)  # bits of a frequent tier: the rest has FEWER
FEWER = 2
SIZES = (16, 32, 64, 128, 256)  # block sizes that MatMulNBits and MatMulBnb4 both have kernels for
SMALLEST = float(np.finfo(np.float32).smallest_normal)
CHUNK = 1 << 22  # weights quantized at a time, so that a large vocabulary's temporaries stay small


@dataclass(frozen=True, order=True)
class Form:
    """State how a matrix is cut and coded: bits per weight, weights per scale, whether zero points are implied.

    With `frequent` above 0 only so many first rows have `bits`; all others have two bits fewer.
    """

    bits: int
    block: int
    symmetric: bool
    frequent: int = 0

    @property
    def top(self) -> int:
        """The largest code."""
        return (1 << self.bits) - 1

    @property
    def middle(self) -> int:
        """The zero point that is implied when none is stored."""
        return 34 if self.bits == 6 else 1 << (self.bits - 1)

    def count(self, columns: int) -> int:
        """Blocks in a row."""
        return -(-columns // self.block)

    @property
    def tiers(self) -> tuple[Form, ...]:
        """The forms of the first rows and of all others; where all rows are alike, this one."""
        if not self.frequent:
            return (self,)
        return replace(self, frequent=0), replace(self, bits=self.bits - FEWER, frequent=0)

    def size(self, rows: int, columns: int) -> int:
        """Bytes of a matrix [rows, columns] in this form, in the file."""
        if self.frequent:
            first, rest = self.tiers
            return first.size(self.frequent, columns) + rest.size(rows - self.frequent, columns)
        count = self.count(columns)
        zeros = 0 if self.symmetric else -(-count * (4 if self.bits == 6 else self.bits) // 8)
        return rows * (count * self.block * self.bits // 8 + 4 * count + zeros)


@dataclass(frozen=True)
class Blocks:
    """A matrix of `rows` x `columns`, every row cut into blocks along its columns.

    Columns are padded up to whole blocks with codes that stand for exactly zero. Where the first rows have more bits
    than the others, these are the first rows, and the others are the `rest`.
    """

    form: Form
    codes: Bytes  # [rows, blocks * block], one code a byte
    scales: Floats  # [rows, blocks]
    zeros: Bytes  # [rows, blocks]; all `form.middle` when symmetric
    columns: int
    rest: Blocks | None = None

    @property
    def padded(self) -> int:
        """Columns with the padding."""
        return int(self.codes.shape[1])

    @property
    def tiers(self) -> tuple[Blocks, ...]:
        """The rows that are stored alike, one group after the other; none of them has a rest."""
        return (self,) if self.rest is None else (replace(self, rest=None), *self.rest.tiers)


@dataclass(frozen=True)
class Part:
    """Operand of MatMulNBits, or table of a lookup. The matrix is the sum of its parts, each times its `factor`."""

    bits: int
    factor: float
    packed: Bytes  # [rows, blocks, block * bits / 8]; the first of a byte's codes is in its lowest bits
    zero_points: Bytes | None  # [rows, ceil(blocks * bits / 8)], packed alike; None means 2 ** (bits - 1) everywhere


def parts(blocks: Blocks) -> tuple[Part, ...]:
    """Return what products and lookups read of one tier; the parts share the scales."""
    form = blocks.form
    if form.bits != 6:
        return (_part(blocks, form.bits, blocks.codes, None if form.symmetric else blocks.zeros, 1.0),)
    high = None if form.symmetric else blocks.zeros >> np.uint8(2)
    return (
        _part(blocks, 4, blocks.codes >> np.uint8(2), high, 4.0),
        _part(blocks, 2, blocks.codes & np.uint8(3), None, 1.0),
    )


def dequantize(blocks: Blocks) -> Floats:
    """The float32 matrix [rows, columns] that the blocks stand for: (code - zero point) * scale."""
    if blocks.rest is not None:
        return np.concatenate([dequantize(tier) for tier in blocks.tiers])
    rows, count = blocks.scales.shape
    values = blocks.codes.reshape(rows, count, -1).astype(np.float32)
    values -= blocks.zeros[..., None]
    values *= blocks.scales[..., None]
    return np.ascontiguousarray(values.reshape(rows, -1)[:, : blocks.columns])


def by_rows(solve: Callable[[Floats], Blocks], matrix: Floats) -> Blocks:
    """`solve` applied to groups of rows that are small enough for its temporaries, and put together again."""
    step = max(1, CHUNK // matrix.shape[1])
    found = [solve(matrix[start : start + step]) for start in range(0, len(matrix), step)]
    codes, scales, zeros = (
        np.concatenate([getattr(part, name) for part in found]) for name in ("codes", "scales", "zeros")
    )
    return Blocks(found[0].form, codes, scales, zeros, matrix.shape[1])


def cut(matrix: Floats, form: Form) -> Floats:
    """The matrix as [rows, blocks, block], padded with zeros. Raises ValueError for NaN or infinite weights."""
    if not np.isfinite(matrix).all():
        raise ValueError("NaN or infinite weights")
    rows, columns = matrix.shape
    count = form.count(columns)
    return np.pad(matrix, ((0, 0), (0, count * form.block - columns))).reshape(rows, count, form.block)


def join(form: Form, codes: Floats | Bytes, scales: Floats, zeros: Floats, columns: int) -> Blocks:
    """Blocks of whole-numbered codes [rows, blocks, block]. ValueError for scales that are not finite."""
    if not np.isfinite(scales).all():
        raise ValueError("overflowing weights")
    rows, count = scales.shape
    flat = codes.astype(np.uint8).reshape(rows, -1)
    points = zeros.astype(np.uint8)
    spare = count * form.block - columns
    if spare:
        flat[:, columns:] = points[:, -1:]
    return Blocks(form, flat, scales.astype(np.float32), points, columns)


def nearest(grid: Floats, scales: Floats, zeros: Floats, form: Form) -> Floats:
    """The codes nearest to the weights [rows, blocks, block], as whole numbers in float32."""
    reciprocal = np.divide(np.float32(1), scales, out=np.zeros_like(scales), where=scales != 0)
    shifted = grid * reciprocal[..., None]
    shifted += zeros[..., None]
    return round_up(np.clip(shifted, 0, form.top, out=shifted))


def symmetric_scales(grid: Floats, form: Form) -> tuple[Floats, Floats]:
    """Scales and implied zero points: the value of largest magnitude takes code 0, exactly."""
    low, high = grid.min(axis=2), grid.max(axis=2)
    peak = np.where(np.abs(high) > np.abs(low), high, low)
    scale = flush(-peak / np.float32(form.middle))
    return scale, np.full_like(scale, form.middle)


def spanning_scales(low: Floats, high: Floats, form: Form) -> tuple[Floats, Floats]:
    """Scales and zero points of grids that span from `low` <= 0 to `high` >= 0."""
    with np.errstate(over="ignore", invalid="ignore"):  # `join` refuses what is not finite
        scale = flush((high - low) / np.float32(form.top))
        zero = np.divide(-low, scale, out=np.zeros_like(scale), where=scale != 0)
    return scale, round_zero(zero, form)


def round_zero(zero: Floats, form: Form) -> Floats:
    """The nearest zero point that can be stored."""
    if form.bits == 6:
        return round_up(np.clip((zero - 2) / 4, 0, 15)) * 4 + 2
    return round_up(np.clip(zero, 0, form.top))


def flush(scale: Floats) -> Floats:
    """Scales below the smallest normal float32 as zero: the reciprocal of a denormal can be infinite."""
    return np.where(np.abs(scale) < SMALLEST, np.float32(0), scale)


def round_up(values: Floats) -> Floats:
    """Halves upwards (C's roundf for values that are not negative); numpy rounds them to even."""
    floor = np.floor(values)
    return floor + (values - floor >= 0.5)


def pack(codes: Bytes, bits: int) -> Bytes:
    """Several codes to a byte along the last axis; what is missing in the last byte is the middle code."""
    each = 8 // bits
    if each == 1:
        return codes
    spare = -codes.shape[-1] % each
    if spare:
        fill = np.full((*codes.shape[:-1], spare), 2 ** (bits - 1), np.uint8)
        codes = np.concatenate([codes, fill], axis=-1)
    result = codes[..., ::each].copy()
    for i in range(1, each):
        result |= codes[..., i::each] << np.uint8(bits * i)
    return result


def _part(blocks: Blocks, bits: int, codes: Bytes, zeros: Bytes | None, factor: float) -> Part:
    rows, count = blocks.scales.shape
    packed = pack(codes.reshape(rows, count, -1), bits)
    return Part(bits, factor, packed, None if zeros is None else pack(zeros, bits))
