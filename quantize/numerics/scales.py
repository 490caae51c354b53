"""Search for the scale and zero point of a block that keep its weighted squared error smallest."""

from __future__ import annotations

import numpy as np

from quantize.numerics import loops
from quantize.numerics.blocks import Floats, Form, flush

# Factors tried on the step that spans a block; in no measurement did one outside win.
SHRINKS = np.linspace(0.55, 1.1, 12, dtype=np.float32)


def search(grid: Floats, weights: Floats, form: Form) -> tuple[Floats, Floats]:
    """Scales and zero points [rows, blocks] for weights [rows, blocks, block].

    `weights` say how much a squared error counts: [blocks, block], or like the grid. Tried are the spanning grid
    shrunk by each of SHRINKS (with either sign of the scale when symmetric: the grid has one value more on one side),
    each followed by the scale that is best for its codes: sum(w c x) / sum(w c c) for code minus zero point c. That
    last step is `make_qkx2_quants` of llama.cpp (ggml-quants.c) with a zero point that must be whole.
    """
    scales, zeros = np.empty(grid.shape[:2], np.float32), np.empty(grid.shape[:2], np.float32)
    numbers = (np.float32(form.top), np.float32(form.middle), form.symmetric, form.bits == 6)
    loops.search(grid, weights if weights.ndim == 3 else weights[None], SHRINKS, numbers, scales, zeros)
    return scales, zeros


def best_scale_for(codes: Floats, target: Floats, weights: Floats, scale: Floats) -> Floats:
    """The scale that brings codes (zero point taken off) nearest to the target; `scale` where all codes are zero."""
    products = (weights * codes * target).sum(axis=2)
    squares = (weights * codes * codes).sum(axis=2)
    return flush(np.divide(products, squares, out=scale.copy(), where=squares > 0))
