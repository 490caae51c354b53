"""The ways in which a graph may read a weight: which are quantized, and which refused by name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from model.contract import Dimensions, Port
from pipeline.errors import InputError
from quantize.schemes.rtn import Options
from tests.support.rounded import quantized
from tests.support.tiny_graph import Array, Tiny, assemble, session

SIDE = Dimensions(
    layers=1, hidden=16, heads=1, kv_heads=1, head_dim=16, context=4, vocabulary=5, parameters=1, tied=True
)


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

    assert sorted(t.name for t in compare(side_model(twice)).graph.initializer) == ["w.q8", "w.scales"]
    names = [t.name for t in compare(side_model(both)).graph.initializer]
    assert sorted(names) == ["w.T.q8", "w.T.scales", "w.q8", "w.scales"]


def test_two_lookups_share_the_table() -> None:
    graph = Tiny(SIDE, [], {})
    table = graph.constant(np.random.default_rng(0).standard_normal((5, 20)).astype(np.float32), "table")
    body = np.random.default_rng(1).standard_normal((20, 16)).astype(np.float32)
    both = graph.op("Add", graph.op("Gather", table, "input_ids"), graph.op("Gather", table, "others"))
    graph.op("MatMul", both, body, name="y")
    ids = [Port(name, "int64", ("n",)) for name in ("input_ids", "others")]
    model = assemble(graph, ids, [Port("y", "float32", ("n", 16))])
    result = quantized(model, Options(bits=8, accuracy_level=0, embedding_block=16), SIDE)
    feed = {"input_ids": np.array([0, 4, 2]), "others": np.array([1, 1, 3])}
    np.testing.assert_allclose(session(result).run(None, feed)[0], session(model).run(None, feed)[0], atol=0.2)
    assert {t.name for t in result.graph.initializer if t.name.startswith("table")} == {"table.q8", "table.scales"}
    assert kinds(result).count("Gather") == 4


@pytest.mark.parametrize("bits", [6, 8])
@pytest.mark.parametrize("domain", ["", "com.microsoft"])
def test_a_product_that_turns_its_weight_round_is_quantized_with_the_lookup_beside_it(domain: str, bits: int) -> None:
    """The head of a fused graph: Gemm or FusedMatMul with transB=1 on the table that Gather reads."""
    graph = Tiny(SIDE, [], {})
    table = graph.constant(np.random.default_rng(0).standard_normal((5, 16)).astype(np.float32), "table")
    body = np.random.default_rng(1).standard_normal((16, 16)).astype(np.float32)
    hidden = graph.op("MatMul", graph.op("Gather", table, "input_ids"), body)
    graph.op("FusedMatMul" if domain else "Gemm", hidden, table, name="logits", transB=1, domain=domain)
    model = assemble(graph, [Port("input_ids", "int64", ("n",))], [Port("logits", "float32", ("n", 5))])
    options = Options(bits=8, block=16, accuracy_level=0, embedding_bits=bits, embedding_block=16)
    result = quantized(model, options, SIDE)
    feed = {"input_ids": np.array([0, 4, 2])}
    (wanted,), (got,) = session(model).run(None, feed), session(result).run(None, feed)
    assert np.abs(got - wanted).max() < 0.5 / 2 ** (bits - 4) * np.abs(wanted).max()
    assert not {"MatMul", "Gemm", "FusedMatMul"} & set(kinds(result))
    names = {tensor.name for tensor in result.graph.initializer if tensor.name.startswith("table.q")}
    codes = {"table.q8"} if bits == 8 else {"table.q6.high", "table.q6.low"}
    assert names == codes


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
