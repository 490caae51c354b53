"""Divergence: against the textbook formula in float64, and for differences too small for it."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.divergence import Divergence, diverge, log_probability, softmax
from verify import check
from verify.check import standard_error


def logits(seed: int, rows: int = 5, size: int = 97, scale: float = 3.0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=(rows, size)) * scale).astype(np.float32)


def compare(reference: np.ndarray, candidate: np.ndarray, target: np.ndarray) -> Divergence:
    return diverge(reference, softmax(reference), log_probability(reference, target), candidate, target)


def exact(reference: np.ndarray, candidate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    def log_softmax(values: np.ndarray) -> np.ndarray:
        wide = values.astype(np.longdouble)
        wide -= wide.max(axis=-1, keepdims=True)
        result: np.ndarray = wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True))
        return result

    p, q = log_softmax(reference), log_softmax(candidate)
    return (np.exp(p) * (p - q)).sum(axis=-1), q


@given(st.integers(0, 1000), st.floats(1e-3, 4))
def test_divergence_is_the_textbook_one(seed: int, noise: float) -> None:
    reference = logits(seed)
    candidate = reference + logits(seed + 1, scale=noise)
    target = np.arange(5) % 97
    result = compare(reference, candidate, target)
    kld, q = exact(reference, candidate)
    np.testing.assert_allclose(result.kld, kld.astype(np.float64), rtol=1e-3, atol=1e-9)
    np.testing.assert_allclose(result.log_probability, q[np.arange(5), target].astype(np.float64), rtol=1e-4, atol=1e-5)


def test_tiny_divergence_keeps_its_digits() -> None:
    reference = logits(7, rows=3, size=50257)
    candidate = reference + logits(8, rows=3, size=50257, scale=1e-5)
    result = compare(reference, candidate, np.zeros(3, np.int64))
    kld, _ = exact(reference, candidate)
    np.testing.assert_allclose(result.kld, kld.astype(np.float64), rtol=0.02)
    assert (result.kld > 0).all()


def test_a_shift_of_all_logits_diverges_by_nothing() -> None:
    reference = logits(3)
    result = compare(reference, reference + np.float32(2.5), np.zeros(5, np.int64))
    assert np.abs(result.kld).max() < 1e-9


def test_same_top_counts_positions_with_another_first_token() -> None:
    reference = logits(1, rows=2)
    candidate = reference.copy()
    candidate[1, reference[1].argmin()] = 99
    assert compare(reference, candidate, np.zeros(2, np.int64)).same_top.tolist() == [1, 0]


def test_not_a_number_is_not_hidden() -> None:
    reference = logits(2)
    candidate = reference.copy()
    candidate[0, 0] = np.nan
    assert not np.isfinite(compare(reference, candidate, np.zeros(5, np.int64)).kld[0])


def test_log_probabilities_sum_to_one() -> None:
    reference = logits(4, rows=1)
    every = [float(log_probability(reference, np.array([token]))[0]) for token in range(97)]
    assert np.exp(every).sum() == pytest.approx(1, abs=1e-6)


def test_standard_error_of_the_mean() -> None:
    assert standard_error(np.array([1.0, 3.0])) == pytest.approx(1.0)
    assert standard_error(np.array([1.0])) == 0


@given(st.integers(0, 40), st.integers(1, 5), st.integers(1, 30), st.sampled_from([None, np.nan, np.inf, -np.inf]))
def test_the_largest_difference_is_the_same_in_pieces(rows: int, columns: int, piece: int, odd: float | None) -> None:
    rng = np.random.default_rng(rows * 31 + columns)
    a, b = (rng.normal(size=(rows, columns)).astype(np.float32) for _ in range(2))
    if odd is not None and a.size:
        a.flat[rng.integers(a.size)] = odd
        b.flat[rng.integers(b.size)] = odd
    with mock.patch.object(check, "PIECE", piece):
        found = check.largest(a, b)
    assert found == (np.inf if odd is not None and a.size else np.abs(a - b).max(initial=0))
