"""HQQ, half-quadratic quantization: scales that fit most of a block's weights and let a few miss.

Source: Badri and Shaji, "Half-Quadratic Quantization of Large Machine Learning Models", 2023, and its reference code
(hqq/core/optimize.py: p = 0.7, beta = 10, kappa = 1.01). The error is measured as |e|^p with p < 1. In turn: the part
of the error that counts as outlier is E = shrink(W - Q), then the grid is fitted to W - E. The original fits a zero
point of float type; the runtime's are whole numbers, which would hardly ever move, so here the scale is fitted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from pipeline.errors import RecipeError
from quantize import blockwise
from quantize.blockwise import UncalibratedOptions
from quantize.calibration import Moments
from quantize.numerics.blocks import Blocks, Floats, Form, by_rows, cut, flush, join, nearest, round_zero
from quantize.numerics.scales import best_scale_for
from quantize.scheme import Context
from quantize.schemes import rtn

CALIBRATED = False
POWER, BETA, KAPPA = 0.7, 10.0, 1.01


@dataclass(frozen=True)
class Options(UncalibratedOptions):
    """`iterations` of shrinking and fitting; a block keeps its best grid."""

    iterations: int = 20

    def check(self, where: str) -> None:
        """Raise RecipeError for a value that cannot be."""
        super().check(where)
        if self.iterations < 1:
            raise RecipeError(
                f"{self.iterations} is not possible", where=f"{where}: iterations", hint="write 1 or more"
            )


def apply(model: ir.Model, options: Options, context: Context) -> None:
    """Quantize every linear layer and table of a graph in place."""
    blockwise.apply(model, "hqq", options, context)


def solve(matrix: Floats, form: Form, moments: Moments | None = None, options: Options | None = None) -> Blocks:  # noqa: ARG001
    """Quantize a float32 matrix [N, K]. Raises ValueError for NaN or infinite weights."""
    iterations = Options(bits=form.bits).iterations if options is None else options.iterations
    return by_rows(lambda part: _solve(part, form, iterations), matrix)


def _solve(matrix: Floats, form: Form, iterations: int) -> Blocks:
    grid = cut(matrix, form)
    first = rtn.solve(matrix, form)
    scale, zero = first.scales, first.zeros.astype(np.float32)
    best_scale, best_zero, best = scale, zero, np.full(scale.shape, np.inf, np.float32)
    # In units of the first step: beta is an absolute threshold, which for weights of no known size must be relative.
    unit = np.maximum(np.abs(scale)[..., None], np.float32(1e-30))
    beta = BETA
    for _ in range(iterations):
        codes = nearest(grid, scale, zero, form)
        error: Floats = grid - (codes - zero[..., None]) * scale[..., None]
        cost = (np.abs(error / unit) ** np.float32(POWER)).mean(axis=2)
        better = cost < best
        best_scale, best_zero = np.where(better, scale, best_scale), np.where(better, zero, best_zero)
        best = np.where(better, cost, best)
        outliers: Floats = _shrink(np.divide(error, unit), beta) * unit
        target: Floats = grid - outliers
        if not form.symmetric:
            reciprocal = np.divide(np.float32(1), scale, out=np.zeros_like(scale), where=scale != 0)
            zero = round_zero((codes - target * reciprocal[..., None]).mean(axis=2), form)
        scale = flush(best_scale_for(codes - zero[..., None], target, np.ones_like(grid[:1]), scale))
        beta *= KAPPA
    return join(form, nearest(grid, best_scale, best_zero, form), best_scale, best_zero, matrix.shape[1])


def _shrink(error: Floats, beta: float) -> Floats:
    """The generalized soft threshold for |e|^p: sign(e) * max(0, |e| - |e|^(p - 1) / beta)."""
    size = np.abs(error)
    power = np.power(np.maximum(size, np.float32(1e-8)), np.float32(POWER - 1)) / np.float32(beta)
    return np.asarray(np.sign(error) * np.maximum(size - power, 0), np.float32)
