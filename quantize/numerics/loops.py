"""Compiled loops over weights, where numpy would send a pass of temporaries through memory for every step.

Rows stand side by side in a vector, so that no sum depends on how many there are or who computes them. Products are
rounded before they are added (no fast math, no fused multiplication and addition), and a block is added up in numpy's
order: the results are those of the same arithmetic in numpy, to the last bit, on every processor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np

from quantize.numerics.blocks import Floats

F = TypeVar("F", bound=Callable[..., Any])
LANES = 64  # rows side by side: what a block of them needs stays in the processor's nearest caches
BATCH = 8  # codes whose changes reach a gradient together
RUN = 128  # numpy adds up to so many numbers by eight sums, and more by halves
HALF, ZERO, ONE, TWO, FOUR, LAST = (np.float32(value) for value in (0.5, 0, 1, 2, 4, 15))
TINY = np.finfo(np.float32).smallest_normal


def compiled(function: F) -> F:
    """Compile when first called, which takes seconds, and keep the result beside the source or in the user's cache.

    What was kept is used as long as this file is unchanged, so nothing that another file defines is compiled into it.
    Where neither place can be written, every run compiles anew.
    """
    try:
        return cast(F, numba.njit(function, cache=True, nogil=True, error_model="numpy"))
    except RuntimeError:  # numba found no place
        return cast(F, numba.njit(function, nogil=True, error_model="numpy"))


@compiled
def _whole(value: Any, top: Any) -> Any:
    """The nearest whole number from 0 to top, halves upwards."""
    inside = max(ZERO, value)
    inside = min(top, inside)
    floor = np.float32(np.int32(inside))
    return floor + (ONE if inside - floor >= HALF else ZERO)


@compiled
def _flushed(scale: Any) -> Any:
    return ZERO if abs(scale) < TINY else scale


@compiled
def _inverse(scale: Any) -> Any:
    return ZERO if scale == ZERO else ONE / scale


@compiled
def _total(sums: Floats) -> Floats:
    """Return what the sums [8 * runs, lanes] of a block add up to, [lanes]."""
    for run in range(0, len(sums), 8):
        for step in (1, 2, 4):
            for at in range(run, run + 8, 2 * step):
                for lane in range(LANES):
                    sums[at, lane] += sums[at + step, lane]
    step = 8
    while step < len(sums):
        for run in range(0, len(sums), 2 * step):
            for lane in range(LANES):
                sums[run, lane] += sums[run + step, lane]
        step *= 2
    total: Floats = sums[0]
    return total


@compiled
def peaks(rows: Floats, block: int) -> Any:
    """The largest magnitude of each block of each row, [rows, blocks]."""
    columns = rows.shape[1]
    found = np.zeros((len(rows), -(-columns // block)), np.float32)
    for row in range(len(rows)):
        for column in range(columns):
            found[row, column // block] = max(found[row, column // block], abs(rows[row, column]))
    return found


@compiled
def search(grid: Floats, weights: Floats, shrinks: Floats, form: Any, scales: Floats, zeros: Floats) -> None:
    """`scales.search` for rows [rows, blocks, block], into scales and zeros [rows, blocks]."""
    rows, count, block = grid.shape
    top, symmetric = form[0], form[2]
    work = np.empty((3, block, LANES), np.float32)
    sums = np.empty((2, 8 * max(1, block // RUN), LANES), np.float32)
    ends = np.empty((2, LANES), np.float32)
    found = np.empty((5, LANES), np.float32)  # scale, zero point and error: the candidate's, the best
    best = np.empty((3, LANES), np.float32)
    for start in range(0, rows, LANES):
        some = min(LANES, rows - start)
        for k in range(count):
            _load(grid, weights, start, some, k, work, ends)
            for number in range(len(shrinks) * (2 if symmetric else 1)):
                if symmetric:
                    _peaked(ends, shrinks[number // 2], number % 2 == 0, form, found)
                else:
                    _spanning(ends, shrinks[number], form, found)
                _fit(work, found, top, sums)
                _compare(work, found, sums, number == 0, best)
                _round(work, found, top)
                _compare(work, found, sums, False, best)
            for lane in range(some):
                scales[start + lane, k] = best[0, lane]
                zeros[start + lane, k] = best[1, lane]


@compiled
def _load(grid: Floats, weights: Floats, start: int, some: int, k: int, work: Floats, ends: Floats) -> None:
    """One block of some rows and its weights on their side, and the ends of the numbers, zero included."""
    for lane in range(LANES):
        row = start + min(lane, some - 1)
        low, high = ZERO, ZERO
        other = row if len(weights) > 1 else 0
        for i in range(grid.shape[2]):
            value = grid[row, k, i]
            work[0, i, lane] = value
            work[1, i, lane] = weights[other, k, i]
            low = min(low, value)
            high = max(high, value)
        ends[0, lane], ends[1, lane] = low, high


@compiled
def _peaked(ends: Floats, shrink: Any, negative: bool, form: Any, found: Floats) -> None:
    """A grid on which the value of largest magnitude takes the first code, shrunk, or its mirror image."""
    middle = form[1]
    factor = -shrink if negative else shrink
    for lane in range(LANES):
        low, high = ends[0, lane], ends[1, lane]
        peak = high if high > -low else low
        found[0, lane] = _flushed(factor * peak / middle)
        found[1, lane] = middle


@compiled
def _spanning(ends: Floats, shrink: Any, form: Any, found: Floats) -> None:
    """A grid from the lowest to the highest value, shrunk."""
    top, six = form[0], form[3]
    for lane in range(LANES):
        low, high = ends[0, lane] * shrink, ends[1, lane] * shrink
        scale = _flushed((high - low) / top)
        zero = ZERO if scale == ZERO else -low / scale
        found[0, lane] = scale
        found[1, lane] = _whole((zero - TWO) / FOUR, LAST) * FOUR + TWO if six else _whole(zero, top)


@compiled
def _round(work: Floats, found: Floats, top: Any) -> None:
    """The nearest codes, zero point taken off."""
    for lane in range(LANES):
        found[2, lane] = _inverse(found[0, lane])
    for i in range(work.shape[1]):
        for lane in range(LANES):
            zero = found[1, lane]
            work[2, i, lane] = _whole(work[0, i, lane] * found[2, lane] + zero, top) - zero


@compiled
def _fit(work: Floats, found: Floats, top: Any, sums: Floats) -> None:
    """The nearest codes, and then the scale that is best for them."""
    _round(work, found, top)
    sums[:] = ZERO
    for i in range(work.shape[1]):
        at = (i // RUN) * 8 + i % 8
        for lane in range(LANES):
            product = work[1, i, lane] * work[2, i, lane]
            sums[0, at, lane] += product * work[0, i, lane]
            sums[1, at, lane] += product * work[2, i, lane]
    products, squares = _total(sums[0]), _total(sums[1])
    for lane in range(LANES):
        if squares[lane] > ZERO:
            found[0, lane] = _flushed(products[lane] / squares[lane])


@compiled
def _compare(work: Floats, found: Floats, sums: Floats, first: bool, best: Floats) -> None:
    """Keep scale and zero point where the error of the codes is less than that of the best."""
    sums[0] = ZERO
    for i in range(work.shape[1]):
        at = (i // RUN) * 8 + i % 8
        for lane in range(LANES):
            error = work[2, i, lane] * found[0, lane] - work[0, i, lane]
            sums[0, at, lane] += work[1, i, lane] * (error * error)
    errors = _total(sums[0])
    for lane in range(LANES):
        if first or errors[lane] < best[2, lane]:
            best[0, lane] = found[0, lane]
            best[1, lane] = found[1, lane]
            best[2, lane] = errors[lane]


@compiled
def compensate(
    work: Floats, order: Any, factor: Floats, scales: Floats, zeros: Floats, form: Any, codes: Floats
) -> Any:
    """GPTQ's pass over the columns in `work` [columns, rows], which are those of `order` [columns].

    Each is rounded, and its error spread over those that follow; the errors are returned, codes less their zero point
    written to `codes` [all columns, rows]. `factor` is [columns, columns]; scales and zeros are [blocks, rows].
    """
    top, block = form
    columns, rows = work.shape
    errors = np.empty_like(work)
    for start in range(0, rows, LANES):
        stop = min(start + LANES, rows)
        for i in range(columns):
            column = order[i]
            scale, zero = scales[column // block], zeros[column // block]
            for row in range(start, stop):
                code = _whole(work[i, row] * _inverse(scale[row]) + zero[row], top) - zero[row]
                codes[column, row] = code
                errors[i, row] = (work[i, row] - code * scale[row]) / factor[i, i]
            for j in range(i + 1, columns):
                for row in range(start, stop):
                    work[j, row] -= factor[i, j] * errors[i, row]
    return errors


@compiled
def descend(gradient: Floats, near: Floats, scale: Floats, zero: Floats, top: Any, codes: Floats) -> None:
    """Give each code of a block [block, rows] in turn its best value; `gradient` [block, rows] follows.

    `near` [block, block] has in row i what a change of code i adds to the gradient.
    """
    block, rows = codes.shape
    change = np.empty((BATCH, LANES), np.float32)
    for start in range(0, rows, LANES):
        stop = min(start + LANES, rows)
        for first in range(0, block, BATCH):
            last = min(first + BATCH, block)
            change[:] = ZERO
            for i in range(first, last):
                for lane in range(stop - start):
                    row = start + lane
                    value = codes[i, row] * scale[row]
                    wanted = value - gradient[i, row] / near[i, i]
                    codes[i, row] = _whole(wanted * _inverse(scale[row]) + zero[row], top) - zero[row]
                    change[i - first, lane] = codes[i, row] * scale[row] - value
                for j in range(first, last):
                    for lane in range(stop - start):
                        gradient[j, start + lane] += near[i, j] * change[i - first, lane]
            for j in range(block):
                if j < first or j >= last:
                    _follow(gradient[j, start:stop], near[first:last, j], change)


@compiled
def descend_together(gradient: Floats, both: Any, scale: Floats, zero: Floats, top: Any, codes: Floats) -> Floats:
    """Do as `descend` where errors of rows count together; `both`: near, and [rows, rows] that says how.

    `gradient` is that of both sides. Returns each column's changes times the latter, [block, rows].
    """
    near, output = both
    spread = np.zeros_like(codes)
    for i in range(len(codes)):
        for row in range(len(scale)):
            value = codes[i, row] * scale[row]
            slope = gradient[i, row] + near[i, i] * spread[i, row]
            wanted = value - slope / (near[i, i] * output[row, row])
            codes[i, row] = _whole(wanted * _inverse(scale[row]) + zero[row], top) - zero[row]
            change = codes[i, row] * scale[row] - value
            for other in range(len(scale) if change != ZERO else 0):
                spread[i, other] += output[row, other] * change
        for j in range(i + 1, len(codes)):
            gradient[j] += near[i, j] * spread[i]
    return spread


@compiled
def _follow(gradient: Floats, near: Floats, change: Floats) -> None:
    """Add the changes of a batch of codes, one after the other; changes that there are not are zero."""
    last = len(near) - 1
    for lane in range(len(gradient)):
        slope = gradient[lane]
        for k in range(BATCH):
            slope += near[min(k, last)] * change[k, lane]
        gradient[lane] = slope


@compiled
def rescale(gradient: Floats, curved: Floats, codes: Floats, scale: Floats) -> None:
    """Give the scale of each row of a block its best value, where any code is not zero."""
    block, rows = codes.shape
    for start in range(0, rows, LANES):
        stop = min(start + LANES, rows)
        slopes, squares = np.zeros(LANES, np.float32), np.zeros(LANES, np.float32)
        for i in range(block):
            for lane in range(stop - start):
                slopes[lane] += codes[i, start + lane] * gradient[i, start + lane]
                squares[lane] += codes[i, start + lane] * curved[i, start + lane]
        for lane in range(stop - start):
            if squares[lane] > ZERO:
                scale[start + lane] -= slopes[lane] / squares[lane]
