from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnxruntime.capi import onnxruntime_pybind11_state as kernels

from quantize.numerics.blocks import Floats
from quantize.numerics.normal_float import LEVELS, QUANT_TYPE, dequantize, quantize

matrices = arrays.arrays(
    np.float32, st.tuples(st.integers(1, 9), st.integers(1, 70)), elements=st.floats(-100, 100, width=32)
)


def of_onnxruntime(matrix: Floats, block: int) -> tuple[np.ndarray, Floats]:
    rows, columns = matrix.shape
    codes = np.zeros(-(-matrix.size // 2), np.uint8)
    peaks = np.zeros(-(-matrix.size // block), np.float32)
    kernels.quantize_matmul_bnb4(codes, matrix, peaks, block, QUANT_TYPE, rows, columns)
    return codes, peaks


@settings(deadline=None)
@given(matrix=matrices, block=st.sampled_from([16, 64]))
def test_same_bits_as_onnxruntime(matrix: Floats, block: int) -> None:
    matrix = np.where(np.abs(matrix) < 1e-30, np.float32(0), matrix)  # below, ours rounds to zero on purpose
    values = quantize(matrix, block=block)
    codes, peaks = of_onnxruntime(matrix, block)
    np.testing.assert_array_equal(values.peaks, peaks)
    np.testing.assert_array_equal(values.packed, codes)


def test_same_bits_as_onnxruntime_at_every_boundary() -> None:
    matrix = np.linspace(-1, 1, 16 * 1024, dtype=np.float32).reshape(1024, 16)
    matrix[:, 0] = 1.0  # every block's peak
    np.testing.assert_array_equal(quantize(matrix, block=16).packed, of_onnxruntime(matrix, 16)[0])


@settings(deadline=None)
@given(matrix=matrices, block=st.sampled_from([16, 64]))
def test_error_is_half_the_gap_between_levels(matrix: Floats, block: int) -> None:
    values = quantize(matrix, block=block)
    peaks = np.repeat(values.peaks, block)[: matrix.size].reshape(matrix.shape)
    gap = float(np.diff(LEVELS).max())
    assert (np.abs(dequantize(values) - matrix) <= peaks * gap / 2 * 1.0001 + 1e-30).all()
    np.testing.assert_array_equal(dequantize(quantize(dequantize(values), block=block)), dequantize(values))


def test_zero_and_denormal_blocks_become_exact_zeros() -> None:
    matrix = np.zeros((2, 64), np.float32)
    matrix[1] = 1e-40
    assert (dequantize(quantize(matrix, block=64)) == 0).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="NaN"):
        quantize(np.array([[1, bad]], np.float32), block=16)
