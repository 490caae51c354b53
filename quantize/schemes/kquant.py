"""The search of llama.cpp's k-quants: scale and zero point of a block by weighted least squares, rounded to nearest.

Source: `make_qkx2_quants` and `quantize_row_q4_K_impl` (ggml/src/ggml-quants.c). An error counts with
sqrt(mean(x^2)) + |x| without calibration, and with m * sqrt(mean(x^2) + x^2) where m is the mean square of the input
that the weight multiplies, which calibration text gives (llama.cpp's importance matrix). Two differences: scales stay
float32 instead of being quantized by super-blocks, and the minimum is a whole zero point, as the runtime needs it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from quantize import blockwise
from quantize.blockwise import BlockwiseOptions
from quantize.calibration import Moments
from quantize.numerics.blocks import Blocks, Floats, Form, by_rows, cut, join, nearest
from quantize.numerics.scales import search
from quantize.scheme import Context

CALIBRATED = True


@dataclass(frozen=True)
class Options(BlockwiseOptions):
    """Nothing of its own."""


def apply(model: ir.Model, options: Options, context: Context) -> None:
    """Quantize every linear layer and table of a graph in place."""
    blockwise.apply(model, "kquant", options, context)


def solve(matrix: Floats, form: Form, moments: Moments | None = None, options: Options | None = None) -> Blocks:  # noqa: ARG001
    """Quantize a float32 matrix [N, K]; `moments` of what reads it weigh the columns. ValueError: not finite."""
    columns = None if moments is None else np.diagonal(moments.rows).astype(np.float32)
    return by_rows(lambda part: _solve(part, form, columns), matrix)


def _solve(matrix: Floats, form: Form, columns: Floats | None) -> Blocks:
    grid = cut(matrix, form)
    mean = np.square(grid).mean(axis=2, keepdims=True)
    if columns is None:
        weights = np.sqrt(mean) + np.abs(grid)
    else:
        weights = cut(columns[None], form) * np.sqrt(mean + np.square(grid))
    scale, zero = search(grid, weights, form)
    return join(form, nearest(grid, scale, zero, form), scale, zero, matrix.shape[1])
