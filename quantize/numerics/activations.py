"""Activations as products at accuracy_level 4 round them: to int8, with one scale for each row and block."""

from __future__ import annotations

import numpy as np

from quantize.numerics.blocks import Floats


def rounding_error(rows: Floats, block: int) -> Floats:
    """Return what rounding adds to float32 `rows` [rows, columns]: code * scale - x, a scale being max |x| / 127.

    As onnxruntime's MatMulNBits does it (QuantizeARow_CompInt8 in its MLAS).
    """
    count, columns = rows.shape
    grid = np.pad(rows, ((0, 0), (0, -columns % block))).reshape(count, -1, block)
    scale = np.abs(grid).max(axis=2, keepdims=True) / np.float32(127)
    codes = np.rint(np.divide(grid, scale, out=np.zeros_like(grid), where=scale != 0))
    return np.asarray((codes * scale - grid).reshape(count, -1)[:, :columns], np.float32)
