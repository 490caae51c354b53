"""Tables whose first rows have more bits: two tables in the graph, read as one."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from model.contract import Dimensions
from pipeline.errors import RecipeError
from quantize.blockwise import Override
from quantize.numerics.blocks import Floats, Form, dequantize
from quantize.rewrite.graph import clean
from quantize.schemes import auto, float16, rtn
from quantize.schemes.rtn import Options
from tests.support.rounded import quantized
from tests.support.table_model import table_model
from tests.support.tiny_graph import LEVELS, Array, batch, context, run, session, tiny_model

ROWS, COLUMNS, FREQUENT = 29, 40, 11  # 40 columns are padded to whole blocks
DIMS = Dimensions(1, COLUMNS, 1, 1, COLUMNS, 4, ROWS, 1, tied=True)
TABLE = np.random.default_rng(0).standard_normal((ROWS, COLUMNS)).astype(np.float32)
IDS = np.array([[0, FREQUENT - 1, FREQUENT], [FREQUENT + 1, ROWS - 1, 5]])
SYMMETRIC = pytest.mark.parametrize("symmetric", [True, False])
BITS = pytest.mark.parametrize("bits", [8, 6, 4])


def options(bits: int, frequent: int = FREQUENT, **settings: Any) -> Options:
    settings = {"accuracy_level": 0, "embedding_block": 16, **settings}
    return Options(bits=8, embedding_bits=bits, embedding_frequent=frequent, **settings)


def ask(model: onnx.ModelProto, level: str, x: Array) -> tuple[Floats, Floats]:
    """Rows looked up, and logits."""
    rows, logits = session(model, level).run(["rows", "logits"], {"input_ids": IDS, "x": x})
    return rows, logits


@pytest.mark.parametrize("level", LEVELS)
@SYMMETRIC
@pytest.mark.parametrize("accuracy", [0, 4])
@pytest.mark.parametrize("bias", [False, True])
@BITS
def test_both_tiers_are_to_the_last_bit_what_tables_of_their_bits_are(
    bits: int, bias: bool, accuracy: int, symmetric: bool, level: str
) -> None:
    """But for the order of sums: level 4's differs in a table's last columns, a bias is added to the whole product."""
    model = table_model(TABLE, DIMS, bias=bias)
    settings = {"embedding_symmetric": symmetric, "accuracy_level": accuracy}
    x = np.random.default_rng(1).standard_normal((3, COLUMNS)).astype(np.float32)
    rows, logits = ask(quantized(model, options(bits, **settings), DIMS), level, x)
    fine, coarse = (ask(quantized(model, options(b, 0, **settings), DIMS), level, x) for b in (bits, bits - 2))
    np.testing.assert_array_equal(rows, np.where((IDS < FREQUENT)[..., None], fine[0], coarse[0]))
    wanted = np.where(np.arange(ROWS) < FREQUENT, fine[1], coarse[1])
    order = 2**-22 * np.abs(wanted).max() if accuracy or bias else 0
    np.testing.assert_allclose(logits, wanted, rtol=0, atol=order)


@pytest.mark.parametrize("level", LEVELS)
@SYMMETRIC
@BITS
def test_lookup_and_product_are_the_numbers_that_the_blocks_stand_for(bits: int, symmetric: bool, level: str) -> None:
    """Where a tier has 6 bits, its two parts are rounded one by one."""
    model = table_model(TABLE, DIMS)
    matrix = onnx.numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == "table"))
    forms = Form(bits, 16, symmetric), Form(bits - 2, 16, symmetric)
    pieces = zip((matrix[:FREQUENT], matrix[FREQUENT:]), forms, strict=True)
    wanted = np.concatenate([dequantize(rtn.solve(piece, form)) for piece, form in pieces])
    found = quantized(model, options(bits, embedding_symmetric=symmetric), DIMS)
    rows, logits = ask(found, level, np.eye(COLUMNS, dtype=np.float32))
    for got, true in ((rows, wanted[IDS]), (logits, wanted.T)):
        np.testing.assert_allclose(got, true, rtol=0 if bits == 4 else 2**-22)
    if bits == 8:
        np.testing.assert_array_equal(logits[:, :FREQUENT], wanted.T[:, :FREQUENT])


@SYMMETRIC
@BITS
def test_the_file_holds_the_bytes_that_the_form_says(bits: int, symmetric: bool) -> None:
    result = quantized(table_model(TABLE, DIMS), options(bits, embedding_symmetric=symmetric), DIMS)
    tensors = [tensor for tensor in result.graph.initializer if tensor.name.startswith("table.")]
    form = Form(bits, 16, symmetric, FREQUENT)
    assert sum(len(tensor.raw_data) for tensor in tensors) == form.size(ROWS, COLUMNS)
    assert form.size(ROWS, COLUMNS) < Form(bits, 16, symmetric).size(ROWS, COLUMNS)
    rows = {(tensor.name.split(".")[1], tensor.dims[0]) for tensor in tensors}
    assert rows == {("frequent", FREQUENT), ("rest", ROWS - FREQUENT)}


def test_new_nodes_bear_the_name_of_the_one_that_they_replace() -> None:
    """`verify` cuts modules out of a graph by their nodes' names."""
    model = table_model(TABLE, DIMS)
    before = {node.name for node in model.graph.node}
    result = quantized(model, options(8), DIMS)
    outside = [node.name for node in result.graph.node if not node.name.startswith(tuple(before))]
    assert outside == []
    assert len({node.name for node in result.graph.node}) == len(result.graph.node)
    makers = {node.output[0]: (node.op_type, node.name) for node in result.graph.node}
    assert makers["rows"] == ("Slice", "node/rows")  # 40 columns, padded to 48
    assert makers["logits"] == ("Concat", "node/logits")


@pytest.mark.parametrize("level", ["ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL"])
@BITS
def test_float16_takes_what_has_tiers(bits: int, level: str) -> None:
    model, settings = table_model(TABLE, DIMS), options(bits, accuracy_level=4)
    copy = ir.from_proto(model)
    rtn.apply(copy, settings, context(DIMS))
    float16.apply(copy, float16.Options(), context(DIMS))
    clean(copy)
    result = ir.to_proto(copy)
    onnx.checker.check_model(result, full_check=True)
    x = np.random.default_rng(1).standard_normal((3, COLUMNS)).astype(np.float32)
    wanted = ask(quantized(model, settings, DIMS), level, x)
    for got, true in zip(ask(result, level, x), wanted, strict=True):
        assert got.dtype == np.float32
        assert np.abs(got - true).max() < 0.02 * np.abs(true).max()
    scales = {t.data_type for t in result.graph.initializer if t.name.endswith(".scales")}
    assert scales == {onnx.TensorProto.FLOAT16}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("tied", [True, False])
def test_a_whole_model_runs_with_embedding_and_head_in_tiers(tied: bool, level: str) -> None:
    dims = dataclasses.replace(DIMS, layers=2, heads=4, kv_heads=4, head_dim=10, context=32, vocabulary=77, tied=tied)
    model, (ids, mask) = tiny_model(dims), batch(dims)
    got, _ = run(session(quantized(model, options(8, 30), dims), level), ids, mask)
    fine, _ = run(session(quantized(model, options(8, 0), dims), level), ids, mask)
    coarse, _ = run(session(quantized(model, options(6, 0), dims), level), ids, mask)
    kept = mask == 1
    assert 0 < np.abs(got - fine)[kept].max() <= 1.5 * np.abs(coarse - fine)[kept].max()


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"embedding_frequent": -1}, "recipe: embedding_frequent"),
        ({"embedding_frequent": 5, "embedding_bits": 0}, "recipe: embedding_bits"),
        ({"embedding_frequent": 5, "embedding_bits": 2}, "recipe: embedding_bits"),
        ({"embedding_frequent": 5, "expand": True}, "recipe: embedding_frequent"),
    ],
)
def test_tiers_that_cannot_be_are_refused_by_key(settings: dict[str, Any], where: str) -> None:
    with pytest.raises(RecipeError) as refusal:
        Options(bits=8, **settings).check("recipe")
    assert refusal.value.where == where
    options(4).check("recipe")


@pytest.mark.parametrize("frequent", [ROWS, ROWS + 1])
def test_tiers_of_which_one_has_no_rows_are_refused(frequent: int) -> None:
    with pytest.raises(RecipeError, match=f"{frequent} frequent rows, but table has {ROWS}") as refusal:
        quantized(table_model(TABLE, DIMS), options(8, frequent), DIMS)
    assert "less than 29" in refusal.value.hint
    with pytest.raises(RecipeError, match="but table has"):
        auto.apply(
            ir.from_proto(table_model(TABLE, DIMS)),
            auto.Options(max_bytes=9999, embedding_candidates=(auto.Storage(8, frequent=frequent),)),
            context(DIMS),
        )
    quantized(table_model(TABLE, DIMS), options(8, ROWS - 1), DIMS)


def test_an_override_may_not_take_the_bits_of_the_rest() -> None:
    with pytest.raises(RecipeError, match="2 is not possible"):
        quantized(table_model(TABLE, DIMS), options(8, overrides=(Override("table", bits=2),)), DIMS)
    result = quantized(table_model(TABLE, DIMS), options(8, overrides=(Override("table", bits=6),)), DIMS)
    assert {"table.frequent.q6.low", "table.rest.q4"} <= {tensor.name for tensor in result.graph.initializer}


@pytest.mark.parametrize(
    ("name", "candidate", "key"),
    [
        ("candidates", auto.Storage(8, frequent=4), "frequent"),
        ("position_candidates", auto.Storage(8, frequent=4), "frequent"),
        ("embedding_candidates", auto.Storage(2, frequent=4), "bits"),
        ("embedding_candidates", auto.Storage(8, frequent=-4), "frequent"),
    ],
)
def test_candidates_in_tiers_are_for_the_vocabulary(name: str, candidate: auto.Storage, key: str) -> None:
    settings: dict[str, Any] = {name: (candidate,)}
    with pytest.raises(RecipeError) as refusal:
        auto.Options(max_bytes=10, **settings).check("recipe")
    assert refusal.value.where == f"recipe: {name}[0]: {key}"
