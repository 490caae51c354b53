"""Blockwise affine quantization of a weight matrix, in the layout that MatMulNBits and GatherBlockQuantized read.

Formulas and packing follow onnxruntime 1.31.1, `MlasQuantizeBlockwise` (onnxruntime/core/mlas/lib/q4_dq.cpp), bit for
bit, with one difference: a block whose scale is below the smallest normal float32 becomes zero. There onnxruntime
takes the reciprocal of a denormal, which can be infinite (and 0 * infinity is NaN).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

SMALLEST = float(np.finfo(np.float32).smallest_normal)
CHUNK = 1 << 23  # elements quantized at a time, so that a large vocabulary's temporaries stay small


@dataclass(frozen=True)
class Blocks:
    """A matrix of `rows` x `columns`, every row cut into blocks along its columns.

    Columns are padded up to whole blocks with values that stand for exactly zero.
    """

    packed: Bytes  # [rows, blocks, block * bits / 8]; at 4 bits the even column is the low half of a byte
    scales: Floats  # [rows, blocks]
    zero_points: Bytes | None  # [rows, ceil(blocks * bits / 8)], packed alike; None means 2 ** (bits - 1) everywhere
    bits: int
    block: int
    columns: int

    @property
    def padded(self) -> int:
        """Columns with the padding."""
        return int(self.scales.shape[1]) * self.block


def quantize(matrix: Floats, *, bits: int, block: int, symmetric: bool) -> Blocks:
    """Round a float32 matrix [rows, columns] to the nearest value of each block's grid.

    Symmetric: scale = -peak / 2^(bits-1), where the peak is the value of largest magnitude with its sign, so that the
    peak is exact and only a value of the opposite sign near it can be clipped. Otherwise the grid spans from the
    block's minimum to its maximum, widened to hold zero. Raises ValueError for NaN or infinite weights.
    """
    rows, columns = matrix.shape
    count = -(-columns // block)
    pack = 8 // bits
    packed = np.empty((rows, count, block // pack), np.uint8)
    scales = np.empty((rows, count), np.float32)
    zero_points = None if symmetric else np.empty((rows, -(-count // pack)), np.uint8)
    step = max(1, CHUNK // (count * block))
    for start in range(0, rows, step):
        part = slice(start, start + step)
        grid = np.pad(matrix[part], ((0, 0), (0, count * block - columns))).reshape(-1, count, block)
        scale, zero = _symmetric(grid, bits) if symmetric else _asymmetric(grid, bits)
        if not np.isfinite(scale).all():
            raise ValueError("NaN, infinite or overflowing weights")
        codes = _codes(grid, scale, zero, bits)
        packed[part], scales[part] = _pack(codes, bits), scale
        if zero_points is not None:
            zero_points[part] = _pack(zero.astype(np.uint8), bits)
    return Blocks(packed, scales, zero_points, bits, block, columns)


def dequantize(blocks: Blocks) -> Floats:
    """The float32 matrix [rows, columns] that the blocks stand for: (code - zero point) * scale."""
    rows, count = blocks.scales.shape
    codes = _unpack(blocks.packed, blocks.bits).astype(np.float32)
    if blocks.zero_points is None:
        zero = np.full((rows, count), 2 ** (blocks.bits - 1), np.float32)
    else:
        zero = _unpack(blocks.zero_points, blocks.bits)[:, :count].astype(np.float32)
    values = (codes - zero[..., None]) * blocks.scales[..., None]
    return values.reshape(rows, -1)[:, : blocks.columns]


def _symmetric(grid: Floats, bits: int) -> tuple[Floats, Floats]:
    low, high = grid.min(axis=2), grid.max(axis=2)
    peak = np.where(np.abs(high) > np.abs(low), high, low)
    scale = _flush(-peak / np.float32(2 ** (bits - 1)))
    return scale, np.full_like(scale, 2 ** (bits - 1))


def _asymmetric(grid: Floats, bits: int) -> tuple[Floats, Floats]:
    top = np.float32(2**bits - 1)
    low = np.minimum(grid.min(axis=2), np.float32(0))
    high = np.maximum(grid.max(axis=2), np.float32(0))
    with np.errstate(over="ignore", invalid="ignore"):  # the caller refuses what is not finite
        scale = _flush((high - low) / top)
        zero = np.divide(-low, scale, out=np.zeros_like(scale), where=scale != 0)
    return scale, _round(np.clip(zero, 0, top))


def _codes(grid: Floats, scale: Floats, zero: Floats, bits: int) -> Bytes:
    reciprocal = np.divide(np.float32(1), scale, out=np.zeros_like(scale), where=scale != 0)
    shifted = grid * reciprocal[..., None] + zero[..., None]
    return _round(np.clip(shifted, 0, 2**bits - 1)).astype(np.uint8)


def _flush(scale: Floats) -> Floats:
    return np.where(np.abs(scale) < SMALLEST, np.float32(0), scale)


def _round(values: Floats) -> Floats:
    """Halves upwards (C's roundf for values that are not negative); numpy rounds them to even."""
    floor = np.floor(values)
    return floor + (values - floor >= 0.5)


def _pack(codes: Bytes, bits: int) -> Bytes:
    if bits == 8:
        return codes
    if codes.shape[-1] % 2:
        codes = np.concatenate([codes, np.full_like(codes[..., :1], 8)], axis=-1)  # 8: as onnxruntime fills it
    return np.bitwise_or(codes[..., ::2], np.left_shift(codes[..., 1::2], 4), dtype=np.uint8)


def _unpack(packed: Bytes, bits: int) -> Bytes:
    if bits == 8:
        return packed
    return np.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:-1], -1)
