"""The solvers that do more than round: what each promises about its error."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import RecipeError
from quantize.calibration import Moments
from quantize.numerics.blocks import BITS, Floats, Form, cut, dequantize, nearest
from quantize.numerics.scales import SHRINKS, search
from quantize.schemes import gptq, hqq, kquant, rtn
from tests.support.matrices import moments, weights

SOLVERS: tuple[Any, ...] = (rtn, hqq, kquant, gptq)
forms = st.builds(Form, st.sampled_from(BITS), st.sampled_from([16, 32]), st.booleans())
seeds = st.integers(0, 2**16)


def loss(matrix: Floats, rounded: Floats, hessian: Floats) -> float:
    error = (rounded - matrix).astype(np.float64)
    return float(np.einsum("ij,ij->", error @ hessian, error))


@pytest.mark.parametrize("solver", SOLVERS)
@given(seed=seeds, form=forms)
def test_codes_are_in_range_and_the_padding_is_zero(solver: Any, seed: int, form: Form) -> None:
    matrix = weights(seed)
    blocks = solver.solve(matrix, form, moments(seed), None)
    assert blocks.codes.max() <= form.top
    assert blocks.zeros.max() <= form.top
    assert not form.symmetric or (blocks.zeros == form.middle).all()
    spare = blocks.codes[:, 40:].astype(int) - blocks.zeros[:, -1:]
    assert (spare == 0).all()
    np.testing.assert_array_equal(solver.solve(matrix, form, moments(seed), None).codes, blocks.codes)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("symmetric", [True, False])
def test_zero_weights_become_zero_and_bad_ones_are_refused(solver: Any, symmetric: bool) -> None:
    form = Form(4, 16, symmetric)
    matrix = weights(0)
    matrix[1] = 0
    assert (dequantize(solver.solve(matrix, form, moments(0), None))[1] == 0).all()
    matrix[2, 3] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        solver.solve(matrix, form, moments(0), None)


@given(seed=seeds, form=forms)
def test_the_search_is_never_worse_than_the_unshrunk_grid_with_its_best_scale(seed: int, form: Form) -> None:
    grid = cut(weights(seed), form)
    importance = np.random.default_rng(seed).uniform(0.1, 2, grid.shape).astype(np.float32)

    def cost(scale: Floats, zero: Floats) -> Floats:
        codes = nearest(grid, scale, zero, form) - zero[..., None]
        error: Floats = (importance * (codes * scale[..., None] - grid) ** 2).sum(axis=2)
        return error

    found = cost(*search(grid, importance, form))
    plain = rtn.solve(weights(seed), form)
    assert 1.0 in SHRINKS.round(3)
    assert (found <= cost(plain.scales, plain.zeros.astype(np.float32)) * 1.0001 + 1e-12).mean() > 0.9


@given(seed=seeds, form=forms)
def test_a_sweep_never_raises_gptqs_error(seed: int, form: Form) -> None:
    matrix, known = weights(seed), moments(seed)
    hessian = gptq._damped(known.second, 0.01)
    losses = []
    for sweeps in (0, 1, 3):
        options = gptq.Options(bits=form.bits, sweeps=sweeps)
        losses.append(loss(matrix, dequantize(gptq.solve(matrix, form, known, options)), hessian))
    assert losses[0] >= losses[1] * (1 - 1e-4) >= losses[2] * (1 - 1e-3)


@pytest.mark.parametrize("act_order", [True, False])
@pytest.mark.parametrize("bits", BITS)
def test_gptq_has_a_fraction_of_the_others_error_on_its_inputs(bits: int, act_order: bool) -> None:
    matrix, known, form = weights(3, 50, 96), moments(3, 96), Form(bits, 32, symmetric=True)
    options = gptq.Options(bits=bits, act_order=act_order)
    ours = loss(matrix, dequantize(gptq.solve(matrix, form, known, options)), known.second)
    for other in (rtn, hqq, kquant):
        solved: Any = other
        assert ours < 0.7 * loss(matrix, dequantize(solved.solve(matrix, form, known, None)), known.second)


def test_compensation_alone_beats_rounding_on_the_same_grid() -> None:
    matrix, known, form = weights(3, 50, 96), moments(3, 96), Form(4, 32, symmetric=True)
    blocks = gptq.solve(matrix, form, known, gptq.Options(bits=4, sweeps=0))
    rounded = nearest(cut(matrix, form), blocks.scales, blocks.zeros.astype(np.float32), form) - form.middle
    plain = (rounded * blocks.scales[..., None]).reshape(50, -1)
    assert loss(matrix, dequantize(blocks), known.second) < 0.8 * loss(matrix, plain, known.second)


def test_the_factor_is_that_of_the_inverse_in_the_columns_order() -> None:
    hessian, order, factor, columns = gptq._prepare(moments(1), 0.01, act_order=True)
    inverse = np.linalg.inv(hessian[np.ix_(order, order)].astype(np.float64))
    np.testing.assert_allclose(factor.T @ factor, inverse, rtol=1e-3, atol=1e-4 * inverse.max())
    assert (np.tril(factor, -1) == 0).all()
    assert (np.diff(np.diagonal(hessian)[order]) <= 0).all()
    np.testing.assert_allclose(columns[order], 1 / np.diagonal(inverse), rtol=1e-3)


def test_rows_in_groups_are_solved_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix, known, form = weights(0, 20), moments(0), Form(4, 16, symmetric=False)
    whole = gptq.solve(matrix, form, known)
    monkeypatch.setattr("quantize.schemes.gptq.ROWS", 7)
    split = gptq.solve(matrix, form, known)
    np.testing.assert_allclose(dequantize(split), dequantize(whole), atol=1e-4)


def test_a_table_that_lookups_read_keeps_nearer_to_its_own_rows() -> None:
    matrix, form = weights(5, 40), Form(4, 16, symmetric=True)
    shared, alone = (
        gptq.solve(matrix, form, moments(5, lookups=lookups), gptq.Options(bits=4, embedding_damping=10.0))
        for lookups in (True, False)
    )
    assert np.square(dequantize(shared) - matrix).sum() < np.square(dequantize(alone) - matrix).sum()


def test_gptq_without_moments_or_with_bad_ones_is_refused() -> None:
    with pytest.raises(ValueError, match="no calibration"):
        gptq.solve(weights(0), Form(4, 16, symmetric=True))
    with pytest.raises(ValueError, match="NaN"):
        gptq.solve(
            weights(0),
            Form(4, 16, symmetric=True),
            Moments(np.full((40, 40), np.nan, np.float32), np.zeros(40, np.float32), lookups=False),
        )


def test_kquant_weighs_columns_by_their_inputs() -> None:
    matrix, form = weights(2, 30), Form(4, 32, symmetric=False)
    second = np.diag(np.where(np.arange(40) % 2, 100.0, 0.01)).astype(np.float32)
    known = Moments(second, np.zeros(len(second), np.float32), lookups=False)
    with_them, without = (dequantize(kquant.solve(matrix, form, m)) for m in (known, None))
    assert loss(matrix, with_them, second) < 0.9 * loss(matrix, without, second)


def test_hqq_fits_most_weights_and_lets_outliers_miss() -> None:
    matrix, form = weights(4, 60), Form(4, 32, symmetric=False)
    plain, fitted = (np.abs(dequantize(solver.solve(matrix, form)) - matrix) for solver in (rtn, hqq))
    assert (fitted**0.7).mean() < 0.98 * (plain**0.7).mean()


@pytest.mark.parametrize(
    ("options", "key"),
    [
        (gptq.Options(bits=4, damping=0.0), "damping"),
        (gptq.Options(bits=4, embedding_damping=1e9), "embedding_damping"),
        (gptq.Options(bits=4, sweeps=-1), "sweeps"),
        (hqq.Options(bits=4, iterations=0), "iterations"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_key(options: Any, key: str) -> None:
    with pytest.raises(RecipeError) as refusal:
        options.check("recipe")
    assert refusal.value.where == f"recipe: {key}"
