from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnxruntime.capi import onnxruntime_pybind11_state as kernels

from quantize.numerics.blocks import BITS, SMALLEST, Blocks, Bytes, Floats, Form, dequantize, parts
from quantize.schemes import rtn

KERNELS = (2, 4, 8)  # bits that onnxruntime quantizes to itself
weights = st.floats(-100, 100, width=32)
matrices = arrays.arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 70)), elements=weights)
forms = st.builds(Form, st.sampled_from(BITS), st.sampled_from([16, 32, 64]), st.booleans())
kernel_forms = st.builds(Form, st.sampled_from(KERNELS), st.sampled_from([16, 32, 64]), st.booleans())


def of_onnxruntime(matrix: Floats, form: Form) -> tuple[Any, Any, Any]:
    """Codes, scales and zero points by onnxruntime's own kernel, which wants [columns, rows] and whole blocks."""
    rows, columns = matrix.shape
    count, each = form.count(columns), 8 // form.bits
    padded = np.ascontiguousarray(np.pad(matrix, ((0, 0), (0, count * form.block - columns))).T)
    codes = np.zeros((rows, count, form.block // each), np.uint8)
    scales = np.zeros((rows, count), np.float32)
    zeros = np.zeros((rows, -(-count // each)), np.uint8)
    kernel = getattr(kernels, f"quantize_matmul_{form.bits}bits")
    kernel(codes, padded, scales, zeros, form.block, rows, count * form.block, form.symmetric)
    return codes, scales, zeros


def packed(blocks: Blocks) -> Bytes:
    (part,) = parts(blocks)
    return part.packed


def unpack(codes: Bytes, bits: int, count: int) -> Bytes:
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    return (codes[..., None] >> shifts & np.uint8(2**bits - 1)).reshape(*codes.shape[:-1], -1)[..., :count]


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", KERNELS)
@pytest.mark.parametrize(("shape", "block"), [((64, 128), 32), ((7, 40), 32), ((3, 33), 16), ((5, 300), 256)])
def test_same_bits_as_onnxruntime(shape: tuple[int, int], block: int, bits: int, symmetric: bool) -> None:
    generator = np.random.default_rng(1)
    size = 10 ** generator.uniform(-6, 3, (shape[0], 1))
    matrix: Floats = (generator.standard_normal(shape) * size).astype(np.float32)
    matrix[0], matrix[1], matrix[2, :20] = 0.0, 0.25, -np.abs(matrix[2, :20])
    form = Form(bits, block, symmetric)
    blocks = rtn.solve(matrix, form)
    codes, scales, zeros = of_onnxruntime(matrix, form)
    np.testing.assert_array_equal(blocks.scales, scales)
    np.testing.assert_array_equal(packed(blocks), codes)
    (part,) = parts(blocks)
    if part.zero_points is not None:
        count = form.count(shape[1])
        np.testing.assert_array_equal(unpack(part.zero_points, bits, count), unpack(zeros, bits, count))
        assert part.zero_points.shape == zeros.shape
    assert (part.zero_points is None) == symmetric


@given(matrix=matrices, form=kernel_forms)
def test_same_bits_as_onnxruntime_whatever_the_weights(matrix: Floats, form: Form) -> None:
    matrix = np.where(np.abs(matrix) < 1e-30, np.float32(0), matrix)  # below, ours rounds to zero on purpose
    blocks = rtn.solve(matrix, form)
    codes, scales, _ = of_onnxruntime(matrix, form)
    np.testing.assert_array_equal(blocks.scales, scales)
    np.testing.assert_array_equal(packed(blocks), codes)


@given(matrix=matrices, form=forms)
def test_the_parts_add_up_to_the_matrix_and_take_the_bytes_announced(matrix: Floats, form: Form) -> None:
    blocks = rtn.solve(matrix, form)
    rows, count = blocks.scales.shape
    total, stored = np.zeros((rows, count, form.block), np.float32), 4 * blocks.scales.size
    for part in parts(blocks):
        codes = unpack(part.packed, part.bits, form.block).astype(np.float32)
        zeros: Any = 2 ** (part.bits - 1)
        stored += part.packed.size
        if part.zero_points is not None:
            zeros = unpack(part.zero_points, part.bits, count)[..., None].astype(np.float32)
            stored += part.zero_points.size
        total += np.float32(part.factor) * (codes - zeros)
    whole = (total * blocks.scales[..., None]).reshape(rows, -1)[:, : matrix.shape[1]]
    np.testing.assert_array_equal(whole, dequantize(blocks))
    assert stored == form.size(*matrix.shape)


@given(matrix=matrices, form=forms)
def test_error_is_half_a_step_except_where_the_grid_ends(matrix: Floats, form: Form) -> None:
    blocks = rtn.solve(matrix, form)
    scale = np.repeat(blocks.scales, form.block, axis=1)[:, : matrix.shape[1]].astype(np.float64)
    step = np.abs(scale)
    error = np.abs(dequantize(blocks).astype(np.float64) - matrix)
    slack = 1e-5 * step * 2**form.bits + SMALLEST * 2**form.bits  # float32 arithmetic, and flushed blocks
    if form.symmetric:  # beyond the grid's far end a value is clipped, at most to the peak's own size
        inside = matrix * np.sign(scale) <= step * (form.top - form.middle)
        assert (error <= step / 2 + slack)[inside].all()
        assert (error <= step * (2 * form.middle - form.top) + slack).all()
    else:  # a zero point that is rounded shifts the whole grid: by half a step, at 6 bits by two steps
        assert (error <= step * (2.5 if form.bits == 6 else 1) + slack).all()


@given(matrix=matrices, form=forms)
def test_quantizing_again_changes_nothing_when_symmetric(matrix: Floats, form: Form) -> None:
    once = dequantize(rtn.solve(matrix, Form(form.bits, form.block, symmetric=True)))
    np.testing.assert_array_equal(dequantize(rtn.solve(once, Form(form.bits, form.block, symmetric=True))), once)


@pytest.mark.parametrize("bits", KERNELS)
def test_halves_round_up_as_in_onnxruntime(bits: int) -> None:
    top = 2 ** (bits - 1)
    matrix = np.array([[-top, *np.arange(-3.5, 4), *np.zeros(7)]], np.float32)
    matrix = np.clip(matrix, -top, top - 1)
    form = Form(bits, 16, symmetric=True)
    blocks = rtn.solve(matrix, form)
    np.testing.assert_array_equal(dequantize(blocks)[0, 1:9], np.clip(np.arange(-3, 5), -top, top - 1))
    np.testing.assert_array_equal(packed(blocks), of_onnxruntime(matrix, form)[0])


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", BITS)
def test_zero_and_denormal_blocks_become_exact_zeros(bits: int, symmetric: bool) -> None:
    matrix = np.zeros((3, 64), np.float32)
    matrix[1] = 1e-40  # a denormal: its scale's reciprocal is infinite
    matrix[2, 32:] = 1.0
    blocks = rtn.solve(matrix, Form(bits, 32, symmetric))
    back = dequantize(blocks)
    assert (blocks.scales[:2] == 0).all()
    assert (back[:2] == 0).all()
    np.testing.assert_allclose(back[2], matrix[2], rtol=0.04 if bits == 6 and not symmetric else 1e-6)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", BITS)
def test_padding_stands_for_zero(bits: int, symmetric: bool) -> None:
    matrix = np.random.default_rng(0).uniform(1, 2, (4, 40)).astype(np.float32)
    blocks = rtn.solve(matrix, Form(bits, 32, symmetric))
    assert blocks.padded == 64
    wide = dequantize(replace(blocks, columns=64))
    assert (wide[:, 40:] == 0).all()
    np.testing.assert_array_equal(wide[:, :40], dequantize(blocks))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("symmetric", [True, False])
def test_weights_that_are_not_finite_are_refused(bad: float, symmetric: bool) -> None:
    matrix = np.ones((2, 32), np.float32)
    matrix[1, 5] = bad
    with pytest.raises(ValueError, match="NaN"):
        rtn.solve(matrix, Form(8, 32, symmetric))


def test_a_large_matrix_in_chunks_is_the_same_as_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = np.random.default_rng(0).standard_normal((50, 48)).astype(np.float32)
    form = Form(4, 16, symmetric=False)
    whole = rtn.solve(matrix, form)
    monkeypatch.setattr("quantize.numerics.blocks.CHUNK", 7 * 48)
    split = rtn.solve(matrix, form)
    for name in ("codes", "scales", "zeros"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(split, name))
