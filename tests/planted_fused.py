"""Faults to plant in a converted GPT-2's fused graph; those that need no operator of either form are in `planted`."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from onnx import helper

from tests.planted import constant, insert, weight


def operators(model: onnx.ModelProto, kind: str) -> Iterator[onnx.NodeProto]:
    return (node for node in model.graph.node if node.op_type == kind)


def set_attribute(node: onnx.NodeProto, name: str, value: float) -> None:
    (old,) = (attribute for attribute in node.attribute if attribute.name == name)
    node.attribute.remove(old)
    node.attribute.append(helper.make_attribute(name, value))


def mask_ignored(model: onnx.ModelProto) -> None:
    (cast,) = (node for node in operators(model, "Cast") if node.input[0] == "attention_mask")
    model.graph.node.insert(0, helper.make_node("Equal", ["attention_mask"] * 2, ["everything"]))
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            if name == cast.output[0]:
                node.input[i] = "everything"


def not_causal(model: onnx.ModelProto) -> None:
    (compare,) = operators(model, "GreaterOrEqual")
    compare.input[1] = compare.input[0]


def default_scale_times_two(model: onnx.ModelProto) -> None:
    node = next(operators(model, "MultiHeadAttention"))
    set_attribute(node, "scale", 2 * next(a.f for a in node.attribute if a.name == "scale"))


def past_of_another_layer(model: onnx.ModelProto) -> None:
    nodes = list(operators(model, "MultiHeadAttention"))
    nodes[3].input[6], nodes[4].input[6] = nodes[4].input[6], nodes[3].input[6]


def presents_swapped(model: onnx.ModelProto) -> None:
    node = list(operators(model, "MultiHeadAttention"))[5]
    node.output[1], node.output[2] = node.output[2], node.output[1]


def exact_gelu(model: onnx.ModelProto) -> None:
    for node in operators(model, "FastGelu"):
        node.op_type = "Gelu"


def large_epsilon(model: onnx.ModelProto) -> None:
    for node in operators(model, "SkipLayerNormalization"):
        set_attribute(node, "epsilon", 1e-3)


def bias_dropped(model: onnx.ModelProto) -> None:
    """The last layer's second residual without its bias."""
    (add,) = (node for node in operators(model, "Add") if node.output[0] == "transformer.h.5.mlp.c_proj")
    list(operators(model, "SkipLayerNormalization"))[-1].input[0] = add.input[0]


def residual_before_attention(model: onnx.ModelProto) -> None:
    """Block 3's second residual adds to what the block was given, not to what its attention left."""
    nodes = list(operators(model, "SkipLayerNormalization"))
    nodes[8].input[1] = nodes[7].input[1]


def last_logits_first(model: onnx.ModelProto) -> None:
    """Asked for the last positions, the graph gives the first ones; asked for all, it is right."""
    (cut,) = (node for node in operators(model, "Slice") if node.output[0] == "kept")
    last = cut.input[1]
    begin, end = constant(model, "begin", [0]), cut.input[2]
    zero = helper.make_node("Equal", [last, begin], ["all_wanted"])
    wanted = helper.make_node("Neg", [last], ["wanted"])
    chosen = helper.make_node("Where", ["all_wanted", end, "wanted"], ["chosen_end"])
    insert(model, cut, zero, wanted, chosen)
    cut.input[1], cut.input[2] = begin, "chosen_end"


def head_of_its_own(model: onnx.ModelProto) -> None:
    (head,) = (node for node in operators(model, "MatMul") if node.output[0] == "logits")
    head.input[1] = constant(model, "lm_head", weight(model, "transformer.wte.weight"))


def logits_on_demand_withdrawn(model: onnx.ModelProto) -> None:
    (port,) = (port for port in model.graph.input if port.name == "num_logits_to_keep")
    model.graph.input.remove(port)
