"""Search for the scale and zero point of a block that keep its weighted squared error smallest."""

from __future__ import annotations

import numpy as np

from quantize.numerics.blocks import Floats, Form, flush, nearest, spanning_scales

SHRINKS = np.linspace(0.55, 1.1, 12, dtype=np.float32)  # of the spanning grid; beyond these nothing was ever best


def search(grid: Floats, weights: Floats, form: Form) -> tuple[Floats, Floats]:
    """Scales and zero points [rows, blocks] for weights [rows, blocks, block].

    `weights` say how much a squared error counts: [blocks, block], or like the grid. Tried are the spanning grid
    shrunk by each of SHRINKS (with either sign of the scale when symmetric: the grid has one value more on one side),
    each followed by the scale that is best for its codes: sum(w c x) / sum(w c c) for code minus zero point c. That
    last step is `make_qkx2_quants` of llama.cpp (ggml-quants.c) with a zero point that must be whole.
    """
    best_scale, best_zero, best = None, None, None
    for scale, zero in _candidates(grid, form):
        for again in range(2):
            codes = nearest(grid, scale, zero, form) - zero[..., None]
            if again == 0:
                scale = best_scale_for(codes, grid, weights, scale)  # noqa: PLW2901 (the candidate, improved)
        error = (weights * (codes * scale[..., None] - grid) ** 2).sum(axis=2)
        if best is None or best_scale is None or best_zero is None:
            best_scale, best_zero, best = scale, zero, error
            continue
        better = error < best
        best_scale, best_zero = np.where(better, scale, best_scale), np.where(better, zero, best_zero)
        best = np.where(better, error, best)
    if best_scale is None or best_zero is None:
        raise RuntimeError("no candidate scale")
    return best_scale, best_zero


def best_scale_for(codes: Floats, target: Floats, weights: Floats, scale: Floats) -> Floats:
    """The scale that brings codes (zero point taken off) nearest to the target; `scale` where all codes are zero."""
    products = (weights * codes * target).sum(axis=2)
    squares = (weights * codes * codes).sum(axis=2)
    return flush(np.divide(products, squares, out=scale.copy(), where=squares > 0))


def _candidates(grid: Floats, form: Form) -> list[tuple[Floats, Floats]]:
    zeros = np.zeros(grid.shape[:2], np.float32)
    low, high = np.minimum(grid.min(axis=2), zeros), np.maximum(grid.max(axis=2), zeros)
    if not form.symmetric:
        return [spanning_scales(low * shrink, high * shrink, form) for shrink in SHRINKS]
    peak = np.where(high > -low, high, low)
    middle = np.full_like(peak, form.middle)
    return [(flush(-sign * shrink * peak / np.float32(form.middle)), middle) for shrink in SHRINKS for sign in (1, -1)]
