"""Test which tables lookup and head read is found by following the graph, whatever the exporter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from model.contract import Dimensions
from verify.candidate.embedding import Tables

V, H = 32, 8
DIMS = Dimensions(1, H, 1, 1, H, V, V, V * H, tied=True)  # a context as long as the vocabulary: shapes tell nothing
TABLE = np.zeros((V, H), np.float32)


def graph(nodes: Sequence[onnx.NodeProto], **tables: np.ndarray) -> onnx.GraphProto:
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["b", "s"])
    places = helper.make_tensor_value_info("position_ids", TensorProto.INT64, ["b", "s"])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["b", "s", V])
    tensors = [numpy_helper.from_array(value, name) for name, value in tables.items()]
    return helper.make_graph(nodes, "g", [ids, places], [logits], tensors)


LOOKUP = helper.make_node("Gather", ["wte", "input_ids"], ["tokens"])
PLACES = helper.make_node("Gather", ["wpe", "position_ids"], ["places"])
SUM = helper.make_node("Add", ["tokens", "places"], ["hidden"])
BODY = [LOOKUP, PLACES, SUM]


@pytest.mark.parametrize(
    "head",
    [
        [helper.make_node("FusedMatMul", ["hidden", "wte"], ["logits"], domain="com.microsoft", transB=1)],
        [helper.make_node("Transpose", ["wte"], ["t"]), helper.make_node("MatMul", ["hidden", "t"], ["logits"])],
        [
            helper.make_node("Shape", ["hidden"], ["shape"]),
            helper.make_node("Gemm", ["hidden", "wte"], ["flat"], transB=1),
            helper.make_node("Reshape", ["flat", "shape"], ["logits"]),
        ],
    ],
    ids=["fused", "transposed", "gemm"],
)
def test_a_shared_table_is_found_on_both_sides(head: list[onnx.NodeProto]) -> None:
    tables = Tables(graph([*BODY, *head], wte=TABLE, wpe=TABLE), DIMS)
    assert (set(tables.embedding), set(tables.head)) == ({"wte"}, {"wte"})


def test_a_head_of_its_own_is_seen() -> None:
    head = helper.make_node("MatMul", ["hidden", "lm_head"], ["logits"])
    tables = Tables(graph([*BODY, head], wte=TABLE, wpe=TABLE, lm_head=TABLE.T), DIMS)
    assert (set(tables.embedding), set(tables.head)) == ({"wte"}, {"lm_head"})


def test_a_table_in_parts_is_all_its_parts() -> None:
    """Rows at two precisions: two lookups and two products, each with a part of its own."""
    nodes = [
        helper.make_node("GatherBlockQuantized", ["wte", "input_ids", "s"], ["a"], domain="com.microsoft"),
        helper.make_node("Min", ["input_ids", "last"], ["rare"]),
        helper.make_node("GatherBlockQuantized", ["more", "rare", "s"], ["b"], domain="com.microsoft"),
        helper.make_node("Add", ["a", "b"], ["hidden"]),
        helper.make_node("MatMulNBits", ["hidden", "wte", "s"], ["x"], domain="com.microsoft"),
        helper.make_node("MatMulNBits", ["hidden", "more", "s"], ["y"], domain="com.microsoft"),
        helper.make_node("Concat", ["x", "y"], ["logits"], axis=-1),
    ]
    parts = {"wte": TABLE[:16], "more": TABLE[16:], "s": TABLE[:, :1], "last": np.array(15)}
    tables = Tables(graph(nodes, **parts), DIMS)
    assert tables.embedding == tables.head == {"wte", "more"}


def test_positions_counted_from_the_shape_of_the_ids_are_no_token_embedding() -> None:
    nodes = [
        LOOKUP,
        helper.make_node("Shape", ["input_ids"], ["shape"]),
        helper.make_node("Range", ["zero", "shape", "one"], ["counted"]),
        helper.make_node("Gather", ["wpe", "counted"], ["places"]),
        SUM,
        helper.make_node("Gemm", ["hidden", "wte"], ["logits"], transB=1),
    ]
    ends = {"zero": np.array(0), "one": np.array(1)}
    assert Tables(graph(nodes, wte=TABLE, wpe=TABLE, **ends), DIMS).embedding == {"wte"}


def test_a_table_that_no_lookup_reads_is_not_found() -> None:
    head = helper.make_node("MatMul", ["places", "wte"], ["logits"])
    assert Tables(graph([PLACES, head], wte=TABLE, wpe=TABLE), DIMS).embedding == frozenset()
