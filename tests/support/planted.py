"""Faults to plant in a converted GPT-2's standard graph: each function changes the model as a real mistake would."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper


def weight(model: onnx.ModelProto, name: str) -> np.ndarray:
    (tensor,) = (t for t in model.graph.initializer if t.name == name)
    return numpy_helper.to_array(tensor).copy()


def store(model: onnx.ModelProto, name: str, value: np.ndarray) -> None:
    (tensor,) = (t for t in model.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(value, name))


def constant(model: onnx.ModelProto, name: str, value: Any) -> str:
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return name


def consumer(model: onnx.ModelProto, op: str, value: str) -> onnx.NodeProto:
    found: onnx.NodeProto = next(n for n in model.graph.node if n.op_type == op and value in n.input)
    return found


def insert(model: onnx.ModelProto, before: onnx.NodeProto, *nodes: onnx.NodeProto) -> None:
    at = list(model.graph.node).index(before)
    for offset, node in enumerate(nodes):
        model.graph.node.insert(at + offset, node)


def replace_input(node: onnx.NodeProto, old: str, new: str) -> None:
    node.input[list(node.input).index(old)] = new


def key_and_value_swapped(model: onnx.ModelProto) -> None:
    for part in ("weight", "bias"):
        name = f"transformer.h.0.attn.c_attn.{part}"
        query, key, value = np.split(weight(model, name), 3, axis=-1)
        store(model, name, np.concatenate([query, value, key], axis=-1))


def mask_ignored(model: onnx.ModelProto) -> None:
    (both,) = (n for n in model.graph.node if n.op_type == "And")
    both.input[1] = both.input[0]


def past_off_by_one(model: onnx.ModelProto) -> None:
    """Positions one too high whenever there is a past."""
    gather = consumer(model, "Gather", "position_ids")
    shape = helper.make_node("Shape", ["past_key_values.0.key"], ["past_shape"], start=2, end=3)
    some = helper.make_node("Min", ["past_shape", constant(model, "one", np.array([1], np.int64))], ["some_past"])
    moved = helper.make_node("Add", ["position_ids", "some_past"], ["moved"])
    top = helper.make_node("Min", ["moved", constant(model, "last", np.array([255], np.int64))], ["capped"])
    insert(model, gather, shape, some, moved, top)
    replace_input(gather, "position_ids", "capped")


def causal_mask_off_by_one(model: onnx.ModelProto) -> None:
    (compare,) = (n for n in model.graph.node if n.op_type == "LessOrEqual")
    later = helper.make_node("Add", [compare.input[1], constant(model, "one", np.int64(1))], ["later"])
    insert(model, compare, later)
    compare.input[1] = "later"


def exact_gelu(model: onnx.ModelProto) -> None:
    """erf(x / sqrt 2) in the place of the tanh: differs from gelu_new by less than 5e-4."""
    for layer in range(6):
        tanh = next(n for n in model.graph.node if n.op_type == "Tanh" and f"h.{layer}/" in n.name)
        fully = f"/transformer/h.{layer}/mlp/c_fc/Add_output_0"
        root = constant(model, f"root_{layer}", np.float32(2**-0.5))
        insert(model, tanh, helper.make_node("Mul", [fully, root], [f"scaled_{layer}"]))
        tanh.op_type, tanh.input[0] = "Erf", f"scaled_{layer}"


def layer_dropped(model: onnx.ModelProto) -> None:
    """Everything after block 3 reads what block 3 read."""
    output, before = "/transformer/h.3/Add_1_output_0", "/transformer/h.2/Add_1_output_0"
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            if name == output:
                node.input[i] = before


def cache_of_one_layer_stale(model: onnx.ModelProto) -> None:
    """present.5.value returns what present.5.key should."""
    value = next(n for n in model.graph.node if "present.5.value" in n.output)
    key = next(n for n in model.graph.node if "present.5.key" in n.output)
    value.input[0], value.input[1] = "past_key_values.5.value", key.input[1]


def embedding_twice(model: onnx.ModelProto) -> None:
    transpose = consumer(model, "Transpose", "transformer.wte.weight")
    store_name = constant(model, "lm_head", weight(model, "transformer.wte.weight"))
    transpose.input[0] = store_name
