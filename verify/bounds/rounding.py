"""Bound how far two right results of the same arithmetic may lie apart: other orders of sums, other roundings.

Worst cases (n u for a sum of n terms) are hundreds of times what is ever seen and would hide faults. What is
bounded here is what happens by chance, after the model of Higham and Mary (Sharper Probabilistic Backward Error
Analysis for Basic Linear Algebra Kernels with Random Data, SIAM J. Sci. Comput. 42(5), 2020): terms with mean zero,
roundings independent of each other. Variances are relative to the square of what is computed.
"""

from __future__ import annotations

import math

FLOAT32, FLOAT16 = 2.0**-24, 2.0**-11  # unit roundoff u: half the distance between 1 and the next number
CHANCE = 1e-6  # that is accepted of a right run to exceed a bound
INVERSE_SQUARE = 0.541  # mean of 1/m^2 for a significand m from 1 to 2 whose logarithm is uniform


def of_sum(terms: int) -> float:
    """Return the variance of a float32 sum's error: u^2 n / 6.

    The k-th partial sum of terms of size t has size sqrt(k) t, and its rounding error is uniform up to u of that. Their
    variances add up to u^2 t^2 n^2 / 6; the sum has n t^2. This is one term after the other: sums in lanes, blocks or
    pairs, as kernels take them, have less.
    """
    return FLOAT32**2 * terms / 6


def of_squares(terms: int) -> float:
    """Return the variance of a float32 sum of squares' error: u^2 n / 9, for the k-th partial sum has size k t^2."""
    return FLOAT32**2 * terms / 9


def of_moved_bit(unit: float) -> float:
    """Return the variance of moving a float by -1, 0 or +1 of its last bit, 2u, at random (verify/faults/lastbits)."""
    return (2 * unit) ** 2 * INVERSE_SQUARE * 2 / 3


def through_layers(branches: int, of_branch: float) -> float:
    """Return the variance that a residual stream takes on in `branches` branches, each with this variance of its own.

    Branches are taken to be alike and uncorrelated: after k of them each makes up 1/k of the stream's variance, so the
    k-th adds of_branch / k: of_branch (1 + 1/2 + ... + 1/branches).
    """
    return of_branch * sum(1 / k for k in range(1, branches + 1))


def typical(largest_of_all: float, count: int) -> float:
    """Return the standard deviation of `count` normal numbers of which the largest is this: m / sqrt(2 ln n)."""
    return largest_of_all / math.sqrt(2 * math.log(count))


def largest(count: int) -> float:
    """Return the standard deviations that none of `count` normal numbers exceeds, but for CHANCE: sqrt(2 ln(n / p))."""
    return math.sqrt(2 * math.log(count / CHANCE))
