from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from artifact.errors import InputError, RecipeError
from artifact.signature import IR_VERSION, OPSET, Dimensions, Port
from quantize.blocks import dequantize, quantize
from quantize.graph import clean, ports
from quantize.schemes import blockwise
from quantize.schemes.blockwise import Options
from tests.test_quantize_tiny import (
    ALIGNED,
    DIMS,
    LEVELS,
    UNTIED,
    Array,
    Tiny,
    assemble,
    batch,
    run,
    session,
    tiny_model,
)

SIDE = Dimensions(layers=1, hidden=16, heads=1, context=4, vocabulary=5, parameters=1, tied=True)


def quantized(model: onnx.ModelProto, options: Options, dims: Dimensions = DIMS) -> onnx.ModelProto:
    copy = ir.from_proto(model)
    blockwise.apply(copy, options, dims)
    clean(copy)
    return ir.to_proto(copy)


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
            back = dequantize(quantize(np.ascontiguousarray(rows), bits=bits, block=block, symmetric=symmetric))
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
@pytest.mark.parametrize(("bits", "symmetric"), [(8, True), (8, False), (4, True), (4, False)])
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


def kinds(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def side_model(build: Callable[[Tiny, Array], None]) -> onnx.ModelProto:
    """A model around one weight [16, 16], for the ways in which a graph may use it."""
    graph = Tiny(SIDE, [], {})
    build(graph, np.random.default_rng(0).standard_normal((16, 16)).astype(np.float32))
    return assemble(graph, [Port("x", "float32", ("n", 16))], [Port("y", "float32", ("n", 16))])


def compare(model: onnx.ModelProto) -> onnx.ModelProto:
    """Quantize at 8 bits and check that the result stays near."""
    result = quantized(model, Options(bits=8, block=16, accuracy_level=0), SIDE)
    x = np.random.default_rng(1).standard_normal((3, 16)).astype(np.float32)
    (wanted,), (got,) = session(model).run(None, {"x": x}), session(result).run(None, {"x": x})
    assert np.abs(got - wanted).max() < 0.03 * np.abs(wanted).max()
    return result


def test_a_bias_that_only_the_product_feeds_is_folded() -> None:
    def build(graph: Tiny, weight: Array) -> None:
        graph.op("Add", np.ones(16, np.float32), graph.op("MatMul", "x", weight), name="y")

    result = compare(side_model(build))
    assert kinds(result) == ["MatMulNBits"]
    assert len(result.graph.node[0].input) == 6
    assert result.graph.node[0].name.startswith("node/MatMul")


def test_a_bias_is_not_folded_when_that_would_change_a_shape_or_a_value() -> None:
    def rank(graph: Tiny, weight: Array) -> None:
        graph.op("Add", graph.op("MatMul", "x", weight), np.ones((1, 16), np.float32), name="y")

    def single(graph: Tiny, weight: Array) -> None:
        graph.op("Add", graph.op("MatMul", "x", weight), np.ones(1, np.float32), name="y")

    def shared(graph: Tiny, weight: Array) -> None:
        product = graph.op("MatMul", "x", weight)
        graph.op("Mul", graph.op("Add", product, np.ones(16, np.float32)), product, name="y")

    for build in (rank, single, shared):
        assert "Add" in kinds(compare(side_model(build)))


def test_a_weight_read_twice_is_stored_once_and_one_read_both_ways_round_twice() -> None:
    def twice(graph: Tiny, weight: Array) -> None:
        name = graph.constant(weight, "w")
        graph.op("MatMul", graph.op("MatMul", "x", name), name, name="y")

    def both(graph: Tiny, weight: Array) -> None:
        name = graph.constant(weight, "w")
        turned = graph.op("Transpose", name, perm=[1, 0])
        graph.op("MatMul", graph.op("MatMul", "x", name), turned, name="y")

    assert [t.name for t in compare(side_model(twice)).graph.initializer] == ["w.q8", "w.scales"]
    names = [t.name for t in compare(side_model(both)).graph.initializer]
    assert sorted(names) == ["w.T.q8", "w.T.scales", "w.q8", "w.scales"]


def test_two_lookups_share_the_table() -> None:
    graph = Tiny(SIDE, [], {})
    table = graph.constant(np.random.default_rng(0).standard_normal((5, 20)).astype(np.float32), "table")
    body = np.random.default_rng(1).standard_normal((20, 16)).astype(np.float32)
    both = graph.op("Add", graph.op("Gather", table, "a"), graph.op("Gather", table, "b"))
    graph.op("MatMul", both, body, name="y")
    ids = [Port(name, "int64", ("n",)) for name in "ab"]
    model = assemble(graph, ids, [Port("y", "float32", ("n", 16))])
    result = quantized(model, Options(bits=8, accuracy_level=0, embedding_block=16), SIDE)
    feed = {"a": np.array([0, 4, 2]), "b": np.array([1, 1, 3])}
    np.testing.assert_allclose(session(result).run(None, feed)[0], session(model).run(None, feed)[0], atol=0.2)
    assert sorted(kinds(result)) == ["Add", *["GatherBlockQuantized"] * 2, "MatMulNBits", "Reshape", "Slice", "Slice"]


def gemm(graph: Tiny, weight: Array) -> None:
    graph.op("Add", graph.op("Gemm", "x", graph.constant(weight, "w")), graph.op("MatMul", "x", weight), name="y")


def left(graph: Tiny, weight: Array) -> None:
    product = graph.op("MatMul", graph.constant(weight, "w"), graph.op("Transpose", "x", perm=[1, 0]))
    graph.op("MatMul", graph.op("Transpose", product, perm=[1, 0]), weight, name="y")


def reshaped(graph: Tiny, weight: Array) -> None:
    name = graph.constant(weight.reshape(-1), "flat")
    square = graph.op("Reshape", graph.constant(weight.reshape(4, 64), "w"), np.array([16, 16]))
    graph.op("Add", graph.op("MatMul", "x", square), graph.op("MatMul", "x", weight), name="y")
    graph.weights.pop(name)


def added(graph: Tiny, weight: Array) -> None:
    name = graph.constant(weight, "w")
    graph.op("MatMul", graph.op("MatMul", "x", name), graph.op("Add", name, name), name="y")


def turned_and_added(graph: Tiny, weight: Array) -> None:
    name = graph.constant(weight, "w")
    turned = graph.op("Transpose", name, perm=[1, 0])
    graph.op("MatMul", graph.op("MatMul", "x", name), graph.op("Add", turned, turned), name="y")


def turned_and_returned(graph: Tiny, weight: Array) -> None:
    graph.op("MatMul", "x", graph.op("Transpose", graph.constant(weight, "w"), perm=[1, 0], name="y"))


@pytest.mark.parametrize("build", [gemm, left, reshaped, added, turned_and_added, turned_and_returned])
def test_a_linear_layer_of_another_form_is_refused_by_name(build: Callable[[Tiny, Array], None]) -> None:
    with pytest.raises(InputError, match=r"^w\b"):
        quantized(side_model(build), Options(bits=8), SIDE)


def test_a_model_without_linear_layers_is_refused() -> None:
    with pytest.raises(InputError, match="no linear layer"):
        quantized(side_model(lambda graph, weight: graph.op("Add", "x", weight[0], name="y")), Options(bits=8), SIDE)


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
        ("bits", 2),
        ("bits", 0),
        ("block", 8),
        ("block", 512),
        ("block", 48),
        ("accuracy_level", 5),
        ("accuracy_level", -1),
        ("embedding_accuracy_level", 5),
        ("embedding_bits", 2),
        ("embedding_block", 0),
    ],
)
def test_an_option_that_the_runtime_has_no_kernel_for_is_refused_by_key(key: str, value: int) -> None:
    options: dict[str, Any] = {"bits": 8, key: value}
    with pytest.raises(RecipeError) as refusal:
        Options(**options).check("recipe")
    assert refusal.value.where == f"recipe: {key}"
    Options(bits=4, embedding_bits=0).check("recipe")
