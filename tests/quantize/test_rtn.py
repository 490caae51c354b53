from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from model.contract import IR_VERSION, OPSET, Dimensions
from pipeline.errors import InputError, RecipeError
from quantize.blockwise import Override
from quantize.numerics.blocks import Form, dequantize
from quantize.rewrite.graph import ports
from quantize.schemes import rtn
from quantize.schemes.rtn import Options
from tests.support.rounded import quantized
from tests.support.tiny_graph import ALIGNED, DIMS, LEVELS, UNTIED, batch, run, session, tiny_model


def rounded(model: onnx.ModelProto, options: Options, dims: Dimensions = DIMS) -> onnx.ModelProto:
    """The fp32 model with every weight replaced by what its quantized form stands for."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        weight = numpy_helper.to_array(tensor)
        if weight.ndim != 2 or tensor.name == "wpe.weight":
            continue
        is_table = dims.vocabulary in weight.shape
        bits = options.embedding_bits if is_table else options.bits
        if bits:
            block = options.embedding_block if is_table else options.block
            rows = weight if tensor.name == "wte.weight" else weight.T
            symmetric = options.embedding_symmetric if is_table else options.symmetric
            back = dequantize(rtn.solve(np.ascontiguousarray(rows), Form(bits, block, symmetric)))
            back = back if tensor.name == "wte.weight" else back.T
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(back), tensor.name))
    return copy


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dims", [DIMS, UNTIED, ALIGNED])
@pytest.mark.parametrize(
    "options",
    [
        Options(bits=8, accuracy_level=0),
        Options(bits=8, block=16, symmetric=False, accuracy_level=0),
        Options(bits=4, accuracy_level=0),
        Options(bits=4, symmetric=False, accuracy_level=0, embedding_bits=4, embedding_block=16),
        Options(bits=4, accuracy_level=0, embedding_bits=4, embedding_block=16, embedding_symmetric=False),
        Options(bits=8, accuracy_level=0, embedding_symmetric=False),
        Options(bits=4, block=64, accuracy_level=0, embedding_bits=0),
        Options(bits=2, block=32, accuracy_level=0, embedding_bits=2, embedding_symmetric=False),
        Options(bits=6, accuracy_level=0, embedding_bits=6),
        Options(bits=6, block=16, symmetric=False, accuracy_level=0, embedding_bits=6, embedding_symmetric=False),
        Options(bits=8, block=512, embedding_block=512, expand=True),
        Options(bits=8, block=16, symmetric=False, embedding_block=16, embedding_symmetric=False, expand=True),
        Options(bits=8, embedding_bits=0, position_bits=0, expand=True),
    ],
)
def test_the_graph_computes_with_the_rounded_weights(options: Options, dims: Dimensions, level: str) -> None:
    model = tiny_model(dims)
    ids, mask = batch(dims)
    wanted, cache = run(session(rounded(model, options, dims)), ids, mask)
    runner = session(quantized(model, options, dims), level)
    got, grown = run(runner, ids, mask)
    np.testing.assert_allclose(got, wanted, atol=2e-4)
    for name, value in cache.items():
        np.testing.assert_allclose(grown[name], value, atol=2e-4)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dims", [DIMS, ALIGNED])
@pytest.mark.parametrize(("bits", "symmetric"), [(8, True), (8, False), (6, True), (6, False), (4, True), (4, False)])
def test_int8_activations_cost_little_and_no_row_sees_another(
    bits: int,
    symmetric: bool,
    dims: Dimensions,
    level: str,
) -> None:
    model, options = tiny_model(dims), Options(bits=bits, symmetric=symmetric, accuracy_level=4)
    ids, mask = batch(dims)
    wanted, _ = run(session(rounded(model, options, dims)), ids, mask)
    runner = session(quantized(model, options, dims), level)
    got, _ = run(runner, ids, mask)
    assert np.abs(got - wanted).max() < 0.05 * np.abs(wanted).max()
    others = ids.copy()
    others[1:] = (others[1:] + 1) % dims.vocabulary
    np.testing.assert_array_equal(run(runner, others, mask)[0][0], got[0])
    np.testing.assert_allclose(run(runner, ids[:1], mask[:1])[0][0], got[0], atol=1e-5)


@pytest.mark.parametrize("dims", [DIMS, UNTIED])
@pytest.mark.parametrize("symmetric", [True, False])
def test_nothing_float_is_left_of_a_quantized_weight(dims: Dimensions, symmetric: bool) -> None:
    model = tiny_model(dims)
    result = quantized(model, Options(bits=4, symmetric=symmetric), dims)
    onnx.checker.check_model(result, full_check=True)
    used = {name for node in result.graph.node for name in node.input}
    made = {name for node in result.graph.node for name in node.output}
    assert {tensor.name for tensor in result.graph.initializer} <= used
    assert made - used <= {port.name for port in result.graph.output}
    floats = [t.name for t in result.graph.initializer if t.data_type == onnx.TensorProto.FLOAT and len(t.dims) == 2]
    assert [name for name in floats if not name.endswith(".scales")] == ["wpe.weight"]
    tables = [tensor for tensor in result.graph.initializer if tensor.dims[:1] == [77] and len(tensor.dims) == 3]
    assert len(tables) == (1 if dims.tied else 2)
    assert not result.graph.value_info
    assert not result.metadata_props
    assert not any(node.doc_string or node.metadata_props for node in result.graph.node)
    assert {entry.domain: entry.version for entry in result.opset_import} == {"": OPSET, "com.microsoft": 1}
    assert result.ir_version == IR_VERSION
    assert ports(ir.from_proto(result)) == ports(ir.from_proto(model))
    assert len({node.name for node in result.graph.node}) == len(result.graph.node)


@pytest.mark.parametrize(("own", "wanted"), [(None, 1), (4, 4), (0, 0)])
def test_the_head_may_have_an_accuracy_level_of_its_own(own: int | None, wanted: int) -> None:
    result = quantized(tiny_model(), Options(bits=4, accuracy_level=1, embedding_accuracy_level=own))
    levels = {
        node.output[0]: next(a.i for a in node.attribute if a.name == "accuracy_level")
        for node in result.graph.node
        if node.op_type == "MatMulNBits"
    }
    assert levels.pop("logits") == wanted
    assert set(levels.values()) == {1}


def test_overrides_hold_for_the_first_glob_that_matches() -> None:
    overrides = (
        Override("h.0.*", bits=8, block=16),
        Override("h.*.out.weight", scheme="hqq", symmetric=False),
        Override("wte.*", bits=0),
        Override("wpe.weight", bits=8, accuracy_level=0),
    )
    result = quantized(tiny_model(), Options(bits=4, overrides=overrides))
    names = {tensor.name: tensor for tensor in result.graph.initializer}
    assert names["h.0.out.weight.q8"].dims[1:] == [10, 16]
    assert "h.0.out.weight.zero_points" not in names
    assert {
        "h.1.in.weight.q4",
        "h.1.out.weight.q4",
        "h.1.out.weight.zero_points",
        "wte.weight",
        "wpe.weight.q8",
    } <= set(names)
    assert not {"h.1.in.weight.zero_points", "wpe.weight"} & set(names)


@pytest.mark.parametrize(
    ("override", "where"),
    [
        (Override("*", scheme="float16"), "recipe: overrides[0]: scheme"),
        (Override("*", scheme="auto"), "recipe: overrides[0]: scheme"),
        (Override("*", scheme="rtm"), "recipe: overrides[0]: scheme"),
        (Override("*", bits=5), "recipe: overrides[0]: bits"),
        (Override("*", block=8), "recipe: overrides[0]: block"),
        (Override("*", accuracy_level=7), "recipe: overrides[0]: accuracy_level"),
    ],
)
def test_an_override_that_cannot_be_is_refused_by_key(override: Override, where: str) -> None:
    with pytest.raises(RecipeError) as refusal:
        Options(bits=4, overrides=(override,)).check("recipe")
    assert refusal.value.where == where


def test_an_override_that_matches_nothing_is_refused() -> None:
    with pytest.raises(RecipeError, match=re.escape("'h.7.*' matches no weight")):
        quantized(tiny_model(), Options(bits=4, overrides=(Override("h.7.*", bits=8),)))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_weight_that_is_not_finite_is_refused_by_name(bad: float) -> None:
    model = tiny_model()
    tensor = next(t for t in model.graph.initializer if t.name == "h.1.out.weight")
    weight = numpy_helper.to_array(tensor).copy()
    weight[3, 3] = bad
    tensor.CopyFrom(numpy_helper.from_array(weight, tensor.name))
    with pytest.raises(InputError, match=re.escape("h.1.out.weight")):
        quantized(model, Options(bits=8))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("bits", 3),
        ("bits", 0),
        ("block", 8),
        ("block", 512),
        ("block", 48),
        ("accuracy_level", 5),
        ("accuracy_level", -1),
        ("embedding_accuracy_level", 5),
        ("embedding_bits", 5),
        ("position_bits", 16),
        ("embedding_block", 0),
    ],
)
def test_an_option_that_the_runtime_has_no_kernel_for_is_refused_by_key(key: str, value: int) -> None:
    options: dict[str, Any] = {"bits": 8, key: value}
    with pytest.raises(RecipeError) as refusal:
        Options(**options).check("recipe")
    assert refusal.value.where == f"recipe: {key}"
    Options(bits=4, embedding_bits=0).check("recipe")


@pytest.mark.parametrize("dims", [DIMS, UNTIED, ALIGNED])
def test_expanded_weights_are_numbers_before_the_first_call(dims: Dimensions, tmp_path: Path) -> None:
    model = quantized(tiny_model(dims), Options(bits=8, block=16, position_bits=8, expand=True), dims)
    stored = [tensor for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.INT8]
    floats = [tensor for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT]
    assert sum(len(tensor.raw_data) for tensor in stored) > sum(len(tensor.raw_data) for tensor in floats)
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    ort.InferenceSession(model.SerializeToString(), options)
    left = onnx.load(tmp_path / "optimized.onnx").graph.initializer
    assert onnx.TensorProto.INT8 not in {tensor.data_type for tensor in left}


@pytest.mark.parametrize("wrong", [{"bits": 4}, {"bits": 8, "embedding_bits": 4}, {"bits": 8, "block": 48}])
def test_only_eight_bits_are_expanded(wrong: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="is not possible"):
        Options(**wrong, expand=True).check("step")
