"""The compiled loops against the same arithmetic in numpy: equal to the last bit, whoever computes which rows."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantize.numerics import cores, loops
from quantize.numerics.blocks import BITS, SIZES, Floats, Form, cut, flush, nearest, round_up, spanning_scales
from quantize.numerics.scales import SHRINKS, best_scale_for, search
from quantize.schemes import gptq
from tests.support.matrices import moments, weights

forms = st.builds(Form, st.sampled_from(BITS), st.sampled_from(SIZES), st.booleans())
seeds = st.integers(0, 2**16)


def plain_search(grid: Floats, importance: Floats, form: Form) -> tuple[Floats, Floats]:
    """`scales.search` as numpy computes it, a pass over all blocks for every step."""
    low, high = np.minimum(grid.min(axis=2), 0), np.maximum(grid.max(axis=2), 0)
    peak = np.where(high > -low, high, low)
    middle = np.full_like(peak, form.middle)
    if form.symmetric:
        tried = [(flush(-sign * s * peak / np.float32(form.middle)), middle) for s in SHRINKS for sign in (1, -1)]
    else:
        tried = [spanning_scales(low * shrink, high * shrink, form) for shrink in SHRINKS]
    best_scale, best_zero, best = tried[0][0], tried[0][1], np.full(peak.shape, np.inf, np.float32)
    for first, zero in tried:
        codes = nearest(grid, first, zero, form) - zero[..., None]
        scale = best_scale_for(codes, grid, importance, first)
        for found in (codes, nearest(grid, scale, zero, form) - zero[..., None]):
            error = (importance * (found * scale[..., None] - grid) ** 2).sum(axis=2)
            better = error < best
            best_scale, best_zero = np.where(better, scale, best_scale), np.where(better, zero, best_zero)
            best = np.where(better, error, best)
    return best_scale, best_zero


@settings(max_examples=60)
@given(seed=seeds, form=forms, rows=st.sampled_from([1, 63, 64, 65]), own=st.booleans())
def test_the_search_is_numpys_to_the_last_bit(seed: int, form: Form, rows: int, own: bool) -> None:
    grid = cut(weights(seed, rows, 2 * form.block - 7), form)
    grid[0, 0] = 0
    shape = grid.shape if own else grid.shape[1:]
    importance = np.random.default_rng(seed).uniform(0.1, 2, shape).astype(np.float32)
    for found, wanted in zip(search(grid, importance, form), plain_search(grid, importance, form), strict=True):
        np.testing.assert_array_equal(found, wanted)


def plain_codes(values: Floats, scale: Floats, zero: Floats, top: int) -> Floats:
    reciprocal = np.divide(np.float32(1), scale, out=np.zeros_like(scale), where=scale != 0)
    return np.asarray(round_up(np.clip(values * reciprocal + zero, 0, top)) - zero, np.float32)


@given(seed=seeds, rows=st.sampled_from([1, 64, 65]), size=st.sampled_from([3, 8, 21]))
def test_compensation_and_descent_are_numpys_to_the_last_bit(seed: int, rows: int, size: int) -> None:
    generator = np.random.default_rng(seed)
    work, gradient = (generator.standard_normal((size, rows)).astype(np.float32) for _ in range(2))
    near = moments(seed, size).second
    factor = np.triu(generator.uniform(0.5, 2, (size, size))).astype(np.float32)
    order = generator.permutation(size)
    scale = generator.uniform(-0.3, 0.3, (6, rows)).astype(np.float32)
    scale[:, 0] = 0
    zero = generator.integers(0, 16, (6, rows)).astype(np.float32)
    codes = np.zeros_like(work)
    wanted, left, errors = codes.copy(), work.copy(), np.empty_like(work)
    for i, column in enumerate(order):
        wanted[column] = plain_codes(left[i], scale[column // 4], zero[column // 4], 15)
        errors[i] = (left[i] - wanted[column] * scale[column // 4]) / factor[i, i]
        left[i + 1 :] -= factor[i, i + 1 :, None] * errors[i]
    found = loops.compensate(work, order, factor, scale, zero, (np.float32(15), 4), codes)
    np.testing.assert_array_equal(codes, wanted)
    np.testing.assert_array_equal(found, errors)
    slope = gradient.copy()
    for i in range(size):
        value = wanted[i] * scale[0]
        wanted[i] = plain_codes(value - slope[i] / near[i, i], scale[0], zero[0], 15)
        slope += near[i, :, None] * (wanted[i] * scale[0] - value)
    loops.descend(gradient, near, scale[0], zero[0], np.float32(15), codes)
    np.testing.assert_array_equal(codes, wanted)
    np.testing.assert_array_equal(gradient, slope)
    curved = near @ codes
    square, slopes = (codes * curved).sum(axis=0), (codes * gradient).sum(axis=0)
    best = scale[0] - np.divide(slopes, square, out=np.zeros_like(square), where=square > 0)
    loops.rescale(gradient, curved, codes, scale[0])
    np.testing.assert_array_equal(scale[0], best)


@given(seed=seeds, columns=st.sampled_from([1, 40, 256, 300]))
def test_peaks_are_numpys_and_those_of_finer_blocks_make_those_of_coarser(seed: int, columns: int) -> None:
    rows = weights(seed, 5, columns)
    wanted = [np.abs(cut(rows, Form(4, block, symmetric=True))).max(axis=2) for block in SIZES]
    found, finer = rows, 1
    for block, peaks in zip(SIZES, wanted, strict=True):
        found, finer = loops.peaks(found, block // finer), block
        np.testing.assert_array_equal(found, peaks)


@pytest.mark.parametrize("block", [32, 256])
def test_any_number_of_cores_makes_the_same_bytes(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    matrix, known, form = weights(0, 600, 300), moments(0, 300), Form(4, block, symmetric=False)
    results = []
    for count in (1, 2, 3):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, count=count: set(range(count)))
        gptq._prepare.cache_clear()
        results.append(gptq.solve(matrix, form, known))
    for result in results[1:]:
        np.testing.assert_array_equal(result.codes, results[0].codes)
        np.testing.assert_array_equal(result.scales, results[0].scales)


def test_groups_come_in_order_and_an_error_in_one_is_raised() -> None:
    assert cores.by_groups(lambda start, stop: (start, stop), 10, 4) == [(0, 4), (4, 8), (8, 10)]

    def fail(start: int, stop: int) -> Any:
        raise ValueError(f"rows {start} to {stop}")

    with pytest.raises(ValueError, match="rows 0 to 4"):
        cores.by_groups(fail, 10, 4)
