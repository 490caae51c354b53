"""Test what counts as a difference from the truth, and what the codes of a quantized weight are."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.truth import Truth
from verify.explain.compare import gap
from verify.explain.rounding import unpack

VALUE = np.arange(6, dtype=np.float32).reshape(1, 3, 2)


def changed(index: Any, to: float) -> np.ndarray:
    value = VALUE.copy()
    value[index] = to
    return value


def test_padding_is_not_compared_and_axes_of_one_do_not_matter() -> None:
    real = np.array([[[False], [True], [True]]])
    truth = Truth(VALUE, real)
    assert gap(changed((0, 0, 0), 99), truth).relative == 0
    assert gap(changed((0, 1, 0), 99), truth).relative == pytest.approx(97 / 5)
    assert gap(VALUE.reshape(3, 1, 2), truth).relative == 0


@pytest.mark.parametrize("value", [changed((0, 2, 1), np.nan), changed((0, 2, 1), np.inf), VALUE[:, :2]])
def test_what_cannot_be_compared_is_infinitely_wrong(value: np.ndarray) -> None:
    found = gap(value, Truth(VALUE))
    assert math.isinf(found.relative)
    assert found.table()["relative"] is None


@pytest.mark.parametrize("blocked", [-1e4, -3e38, -np.inf])
def test_a_mask_may_block_with_any_constant_but_not_elsewhere(blocked: float) -> None:
    truth = Truth(np.array([[0, -1e4], [0, 0]], np.float32), mask=True)
    assert gap(np.array([[0, blocked], [0, 0]], np.float32), truth).relative == 0
    assert math.isinf(gap(np.array([[0, 0], [0, 0]], np.float32), truth).relative)
    assert math.isinf(gap(np.array([[0, blocked], [blocked, 0]], np.float32), truth).relative)
    assert gap(np.array([[0, blocked], [0.5, 0]], np.float32), truth).relative == 0.5


def test_whole_numbers_and_masks_differ_or_do_not() -> None:
    assert gap(np.array([1, 2]), Truth(np.array([1, 2]))).relative == 0
    assert gap(np.array([1, 4]), Truth(np.array([1, 2]))).relative == 2
    assert gap(np.array([True, False]), Truth(np.array([True, True]))).relative == 1


@given(st.sampled_from([2, 4, 8]), st.lists(st.integers(0, 255), min_size=1, max_size=8))
def test_codes_are_packed_lowest_bits_first(bits: int, stored: list[int]) -> None:
    codes = unpack(np.array([stored], np.uint8), bits)[0].astype(int).tolist()
    per_byte = 8 // bits
    again = [sum(codes[i * per_byte + j] << (j * bits) for j in range(per_byte)) for i in range(len(stored))]
    assert again == stored
