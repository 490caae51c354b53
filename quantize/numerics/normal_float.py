"""NF4: four-bit codes for weights that are normally distributed, in the layout that MatMulBnb4 reads.

The sixteen levels and the boundaries between them are those of bitsandbytes and of onnxruntime 1.31.1
(onnxruntime/contrib_ops/cpu/quantization/blockwise_quant_block_bnb4.h), bit for bit, with one difference: a block
whose largest magnitude is below the smallest normal float32 becomes zero, because its reciprocal may be infinite.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from quantize.numerics.blocks import SMALLEST, Bytes, Floats

QUANT_TYPE = 1  # MatMulBnb4's number for NF4
LEVELS = np.array(
    [
        -1.0,
        -0.6961928009986877,
        -0.5250730514526367,
        -0.39491748809814453,
        -0.28444138169288635,
        -0.18477343022823334,
        -0.09105003625154495,
        0.0,
        0.07958029955625534,
        0.16093020141124725,
        0.24611230194568634,
        0.33791524171829224,
        0.44070982933044434,
        0.5626170039176941,
        0.7229568362236023,
        1.0,
    ],
    np.float32,
)
BOUNDARIES = np.array(
    [
        -0.8480964004993439,
        -0.6106329262256622,
        -0.4599952697753906,
        -0.33967943489551544,
        -0.23460740596055984,
        -0.13791173323988914,
        -0.045525018125772476,
        0.03979014977812767,
        0.1202552504837513,
        0.2035212516784668,
        0.2920137718319893,
        0.3893125355243683,
        0.5016634166240692,
        0.6427869200706482,
        0.8614784181118011,
    ],
    np.float32,
)


@dataclass(frozen=True)
class NormalFloats:
    """A matrix flattened row by row and cut into blocks; a block may span two rows."""

    packed: Bytes  # [ceil(size / 2)]; the earlier value is the high half of a byte
    peaks: Floats  # [ceil(size / block)], each block's largest magnitude
    block: int
    shape: tuple[int, int]


def quantize(matrix: Floats, *, block: int) -> NormalFloats:
    """Round a float32 matrix [rows, columns] to the nearest level of its block; ValueError for NaN or infinity."""
    rows, columns = matrix.shape
    flat = np.pad(matrix.reshape(-1), (0, -matrix.size % block)).reshape(-1, block)
    peaks = np.abs(flat).max(axis=1)
    if not np.isfinite(peaks).all():
        raise ValueError("NaN or infinite weights")
    peaks = np.where(peaks < SMALLEST, np.float32(0), peaks)
    reciprocal = np.divide(np.float32(1), peaks, out=np.zeros_like(peaks), where=peaks != 0)
    codes = np.searchsorted(BOUNDARIES, flat * reciprocal[:, None]).astype(np.uint8).reshape(-1)
    packed = np.bitwise_or(np.left_shift(codes[::2], 4), codes[1::2], dtype=np.uint8)
    return NormalFloats(packed[: -(-matrix.size // 2)], peaks, block, (rows, columns))


def dequantize(values: NormalFloats) -> Floats:
    """The float32 matrix [rows, columns] that the codes stand for: level * peak."""
    size = values.shape[0] * values.shape[1]
    codes = np.stack([values.packed >> 4, values.packed & 15], axis=-1).reshape(-1)[:size]
    return (LEVELS[codes] * np.repeat(values.peaks, values.block)[:size]).reshape(values.shape)
