"""Matrices as solvers see them: weights with outliers, and moments of inputs that correlate."""

from __future__ import annotations

import numpy as np

from quantize.calibration import Moments
from quantize.numerics.blocks import Floats


def weights(seed: int, rows: int = 6, columns: int = 40) -> Floats:
    """Weights with a few outliers, as trained ones have."""
    generator = np.random.default_rng(seed)
    return generator.standard_t(3, (rows, columns)).astype(np.float32)


def moments(seed: int, columns: int = 40, *, lookups: bool = False) -> Moments:
    """Moments of inputs that correlate and differ in size."""
    generator = np.random.default_rng(seed)
    mixing = generator.standard_normal((columns, columns)) * np.linspace(0.1, 2, columns)
    inputs = (generator.standard_normal((4 * columns, columns)) @ mixing + 0.5).astype(np.float32)
    second = (inputs.T @ inputs / len(inputs)).astype(np.float32)
    return Moments(second, inputs.mean(axis=0).astype(np.float32), lookups)
