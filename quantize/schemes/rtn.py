"""Round to nearest: every weight takes the nearest value of its block's grid, which spans the block's values.

The arithmetic follows onnxruntime 1.31.1, `MlasQuantizeBlockwise` (onnxruntime/core/mlas/lib/q4_dq.cpp), bit for bit,
with one difference: a block whose scale is below the smallest normal float32 becomes zero. There onnxruntime takes the
reciprocal of a denormal, which can be infinite (and 0 * infinity is NaN).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from quantize import blockwise
from quantize.blockwise import UncalibratedOptions
from quantize.calibration import Moments
from quantize.numerics.blocks import (
    Blocks,
    Floats,
    Form,
    by_rows,
    cut,
    join,
    nearest,
    spanning_scales,
    symmetric_scales,
)
from quantize.scheme import Context

CALIBRATED = False


@dataclass(frozen=True)
class Options(UncalibratedOptions):
    """Nothing of its own."""


def apply(model: ir.Model, options: Options, context: Context) -> None:
    """Quantize every linear layer and table of a graph in place."""
    blockwise.apply(model, "rtn", options, context)


def solve(matrix: Floats, form: Form, moments: Moments | None = None, options: Options | None = None) -> Blocks:  # noqa: ARG001
    """Round a float32 matrix [N, K] to the nearest value of each block's grid.

    Symmetric: scale = -peak / middle, where the peak is the value of largest magnitude with its sign, so that the
    peak is exact and only a value of the opposite sign near it can be clipped. Otherwise the grid spans from the
    block's minimum to its maximum, widened to hold zero. Raises ValueError for NaN or infinite weights.
    """
    return by_rows(lambda part: _solve(part, form), matrix)


def _solve(matrix: Floats, form: Form) -> Blocks:
    grid = cut(matrix, form)
    if form.symmetric:
        scale, zero = symmetric_scales(grid, form)
    else:
        zeros = np.zeros(grid.shape[:2], np.float32)
        scale, zero = spanning_scales(np.minimum(grid.min(axis=2), zeros), np.maximum(grid.max(axis=2), zeros), form)
    return join(form, nearest(grid, scale, zero, form), scale, zero, matrix.shape[1])
