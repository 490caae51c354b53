from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnxruntime.capi import onnxruntime_pybind11_state as kernels

from quantize.blocks import SMALLEST, Floats, dequantize, quantize

BITS = (4, 8)
weights = st.floats(-100, 100, width=32)
matrices = arrays.arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 70)), elements=weights)
grids = st.fixed_dictionaries(
    {"bits": st.sampled_from(BITS), "block": st.sampled_from([16, 32, 64]), "symmetric": st.booleans()}
)


def of_onnxruntime(matrix: Floats, bits: int, block: int, *, symmetric: bool) -> tuple[Any, Any, Any]:
    """Codes, scales and zero points by onnxruntime's own kernel, which wants [columns, rows] and whole blocks."""
    rows, columns = matrix.shape
    count, pack = -(-columns // block), 8 // bits
    padded = np.ascontiguousarray(np.pad(matrix, ((0, 0), (0, count * block - columns))).T)
    codes = np.zeros((rows, count, block // pack), np.uint8)
    scales = np.zeros((rows, count), np.float32)
    zeros = np.zeros((rows, -(-count // pack)), np.uint8)
    kernel = getattr(kernels, f"quantize_matmul_{bits}bits")
    kernel(codes, padded, scales, zeros, block, rows, count * block, symmetric)
    return codes, scales, zeros


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize(("shape", "block"), [((64, 128), 32), ((7, 40), 32), ((3, 33), 16), ((5, 300), 256)])
def test_same_bits_as_onnxruntime(shape: tuple[int, int], block: int, bits: int, symmetric: bool) -> None:
    generator = np.random.default_rng(1)
    size = 10 ** generator.uniform(-6, 3, (shape[0], 1))
    matrix: Floats = (generator.standard_normal(shape) * size).astype(np.float32)
    matrix[0], matrix[1], matrix[2, :20] = 0.0, 0.25, -np.abs(matrix[2, :20])
    blocks = quantize(matrix, bits=bits, block=block, symmetric=symmetric)
    codes, scales, zeros = of_onnxruntime(matrix, bits, block, symmetric=symmetric)
    np.testing.assert_array_equal(blocks.scales, scales)
    np.testing.assert_array_equal(blocks.packed, codes)
    if blocks.zero_points is not None:
        np.testing.assert_array_equal(blocks.zero_points, zeros)
    assert (blocks.zero_points is None) == symmetric


@settings(deadline=None)
@given(matrix=matrices, grid=grids)
def test_same_bits_as_onnxruntime_whatever_the_weights(matrix: Floats, grid: dict[str, Any]) -> None:
    matrix = np.where(np.abs(matrix) < 1e-30, np.float32(0), matrix)  # below, ours rounds to zero on purpose
    blocks = quantize(matrix, **grid)
    codes, scales, _ = of_onnxruntime(matrix, grid["bits"], grid["block"], symmetric=grid["symmetric"])
    np.testing.assert_array_equal(blocks.scales, scales)
    np.testing.assert_array_equal(blocks.packed, codes)


@settings(deadline=None)
@given(matrix=matrices, grid=grids)
def test_error_is_half_a_step_except_where_the_grid_ends(matrix: Floats, grid: dict[str, Any]) -> None:
    blocks = quantize(matrix, **grid)
    step = np.repeat(np.abs(blocks.scales), grid["block"], axis=1)[:, : matrix.shape[1]].astype(np.float64)
    error = np.abs(dequantize(blocks).astype(np.float64) - matrix)
    slack = 1e-5 * step * 2 ** grid["bits"] + SMALLEST * 2 ** grid["bits"]  # float32 arithmetic, and flushed blocks
    assert (error <= step + slack).all()
    if grid["symmetric"]:  # the grid has one value less on the side away from the peak
        scale = np.repeat(blocks.scales, grid["block"], axis=1)[:, : matrix.shape[1]].astype(np.float64)
        inside = matrix * np.sign(scale) <= np.abs(scale) * (2 ** (grid["bits"] - 1) - 1)
        assert (error <= step / 2 + slack)[inside].all()


@settings(deadline=None)
@given(matrix=matrices, grid=grids)
def test_quantizing_again_changes_nothing_when_symmetric_and_at_most_a_step_otherwise(
    matrix: Floats, grid: dict[str, Any]
) -> None:
    """A stored zero point is rounded, so a grid that should span -1..1 can end half a step short on one side."""
    blocks = quantize(matrix, **grid)
    once = dequantize(blocks)
    again = dequantize(quantize(once, **grid))
    if grid["symmetric"]:
        np.testing.assert_array_equal(again, once)
    step = np.repeat(np.abs(blocks.scales), grid["block"], axis=1)[:, : matrix.shape[1]]
    assert (np.abs(again - once) <= step * 1.001 + SMALLEST).all()


@pytest.mark.parametrize("bits", BITS)
def test_halves_round_up_as_in_onnxruntime(bits: int) -> None:
    top = 2 ** (bits - 1)
    matrix = np.array([[-top, *np.arange(-3.5, 4), *np.zeros(7)]], np.float32)
    blocks = quantize(matrix, bits=bits, block=16, symmetric=True)
    np.testing.assert_array_equal(dequantize(blocks)[0, 1:9], np.arange(-3, 5))
    np.testing.assert_array_equal(blocks.packed, of_onnxruntime(matrix, bits, 16, symmetric=True)[0])


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", BITS)
def test_zero_and_denormal_blocks_become_exact_zeros(bits: int, symmetric: bool) -> None:
    matrix = np.zeros((3, 64), np.float32)
    matrix[1] = 1e-40  # a denormal: its scale's reciprocal is infinite
    matrix[2, 32:] = 1.0
    blocks = quantize(matrix, bits=bits, block=32, symmetric=symmetric)
    back = dequantize(blocks)
    assert (blocks.scales[:2] == 0).all()
    assert (back[:2] == 0).all()
    np.testing.assert_array_equal(back[2], matrix[2])


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", BITS)
def test_padding_stands_for_zero(bits: int, symmetric: bool) -> None:
    matrix = np.random.default_rng(0).uniform(1, 2, (4, 40)).astype(np.float32)
    blocks = quantize(matrix, bits=bits, block=32, symmetric=symmetric)
    assert blocks.padded == 64
    wide = dequantize(type(blocks)(blocks.packed, blocks.scales, blocks.zero_points, bits, 32, columns=64))
    assert (wide[:, 40:] == 0).all()
    np.testing.assert_array_equal(wide[:, :40], dequantize(blocks))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("symmetric", [True, False])
def test_weights_that_are_not_finite_are_refused(bad: float, symmetric: bool) -> None:
    matrix = np.ones((2, 32), np.float32)
    matrix[1, 5] = bad
    with pytest.raises(ValueError, match="NaN"):
        quantize(matrix, bits=8, block=32, symmetric=symmetric)


def test_a_large_matrix_in_chunks_is_the_same_as_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = np.random.default_rng(0).standard_normal((50, 48)).astype(np.float32)
    whole = quantize(matrix, bits=4, block=16, symmetric=False)
    monkeypatch.setattr("quantize.blocks.CHUNK", 7 * 48)
    parts = quantize(matrix, bits=4, block=16, symmetric=False)
    np.testing.assert_array_equal(whole.packed, parts.packed)
    np.testing.assert_array_equal(whole.scales, parts.scales)
    assert whole.zero_points is not None
    assert parts.zero_points is not None
    np.testing.assert_array_equal(whole.zero_points, parts.zero_points)
