"""Faults with the node that each is planted in, and how often an explanation names it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

from tests import planted, planted_fused
from tests.planted import constant, insert, store, weight

HIDDEN, HEADS, WIDTH, CONTEXT = planted.HIDDEN, planted.HEADS, planted.HIDDEN // planted.HEADS, 256


@dataclass(frozen=True)
class Planted:
    """A fault, and the names of the nodes that it changes or puts in, or that read a constant it changes."""

    plant: Callable[[onnx.ModelProto], None]
    nodes: frozenset[str]

    @property
    def name(self) -> str:
        return self.plant.__name__


def made_by(model: onnx.ModelProto, tensor: str) -> onnx.NodeProto:
    found: onnx.NodeProto = next(n for n in model.graph.node if tensor in n.output)
    return found


def changed(clean: onnx.ModelProto, faulty: onnx.ModelProto) -> frozenset[str]:
    """Names of the nodes that differ, or read a constant that differs: where the fault was planted."""
    before = {label(n): n.SerializeToString() for n in clean.graph.node}
    constants = {t.name: t.SerializeToString() for t in clean.graph.initializer}
    other = {t.name for t in faulty.graph.initializer if constants.get(t.name) != t.SerializeToString()}
    return frozenset(
        label(n)
        for n in faulty.graph.node
        if before.get(label(n)) != n.SerializeToString() or other.intersection(n.input)
    )


def label(node: onnx.NodeProto) -> str:
    return node.name or node.output[0]


def neighbours(model: onnx.ModelProto, names: frozenset[str]) -> frozenset[str]:
    """Nodes that make what one of these reads, or read what one of these makes."""
    own = [n for n in model.graph.node if label(n) in names]
    read, made = ({t for n in own for t in getattr(n, side) if t} for side in ("input", "output"))
    return frozenset(label(n) for n in model.graph.node if read.intersection(n.output) or made.intersection(n.input))


def bias_of_one_head_swapped(model: onnx.ModelProto) -> None:
    name = "transformer.h.3.attn.c_attn.bias"
    value = weight(model, name)
    value[:WIDTH], value[WIDTH : 2 * WIDTH] = value[WIDTH : 2 * WIDTH].copy(), value[:WIDTH].copy()
    store(model, name, value)


def norm_bias_moved(model: onnx.ModelProto) -> None:
    name = "transformer.h.3.ln_1.bias"
    store(model, name, weight(model, name) + np.float32(0.01))


def mask_wrong_in_the_second_row(model: onnx.ModelProto) -> None:
    """The second row's padding is looked at."""
    node = made_by(model, "real")
    rows = helper.make_node("Shape", ["attention_mask"], ["mask_rows"], start=0, end=1)
    flat = helper.make_node("Squeeze", ["mask_rows"], ["row_count"])
    bounds = [constant(model, "row_0", np.int64(0)), "row_count", constant(model, "row_1", np.int64(1))]
    count = helper.make_node("Range", bounds, ["row_numbers"])
    second = helper.make_node("Equal", ["row_numbers", "row_1"], ["second"])
    column = helper.make_node("Unsqueeze", ["second", constant(model, "last_axis", [1])], ["second_row"])
    node.output[0] = "real_before"
    both = helper.make_node("Or", ["real_before", "second_row"], ["real"])
    at = list(model.graph.node).index(node)
    for offset, new in enumerate((rows, flat, count, second, column, both), start=1):
        model.graph.node.insert(at + offset, new)


def positions_shifted_beyond_the_middle(model: onnx.ModelProto) -> None:
    gather = planted.consumer(model, "Gather", "position_ids")
    limit, one = constant(model, "middle", np.int64(128)), constant(model, "place_one", np.int64(1))
    beyond = helper.make_node("Greater", ["position_ids", limit], ["beyond"])
    less = helper.make_node("Sub", ["position_ids", one], ["one_less"])
    chosen = helper.make_node("Where", ["beyond", "one_less", "position_ids"], ["places"])
    insert(model, gather, beyond, less, chosen)
    planted.replace_input(gather, "position_ids", "places")


def presents_swapped_in_the_standard_graph(model: onnx.ModelProto) -> None:
    key, value = (made_by(model, f"present.1.{part}") for part in ("key", "value"))
    key.input[1], value.input[1] = value.input[1], key.input[1]


def cache_wrong_from_the_third_step(model: onnx.ModelProto) -> None:
    """From a past of three tokens on, layer 2's keys are one percent too large."""
    node = made_by(model, "present.2.key")
    node.output[list(node.output).index("present.2.key")] = "present_before"
    shape = helper.make_node("Shape", ["past_key_values.2.key"], ["past_shape"], start=2, end=3)
    late = helper.make_node("Greater", ["past_shape", constant(model, "two", [2])], ["late"])
    factor = helper.make_node(
        "Where", ["late", constant(model, "more", np.float32(1.01)), constant(model, "same", np.float32(1))], ["factor"]
    )
    times = helper.make_node("Mul", ["present_before", "factor"], ["present.2.key"])
    at = list(model.graph.node).index(node)
    for offset, new in enumerate((shape, late, factor, times), start=1):
        model.graph.node.insert(at + offset, new)
    for other in model.graph.node[at + 5 :]:
        for i, name in enumerate(other.input):
            other.input[i] = "present_before" if name == "present.2.key" else name


def wrong_for_one_token(model: onnx.ModelProto) -> None:
    """Only where the sequence length is 1: the last layer's stream is doubled."""
    norm = made_by(model, "transformer.ln_f")
    length = helper.make_node("Shape", ["input_ids"], ["length_again"], start=1, end=2)
    single = helper.make_node("Equal", ["length_again", constant(model, "single", [1])], ["is_single"])
    factor = helper.make_node(
        "Where",
        ["is_single", constant(model, "twice", np.float32(2)), constant(model, "once", np.float32(1))],
        ["times"],
    )
    grown = helper.make_node("Mul", [norm.input[0], "times"], ["grown"])
    insert(model, norm, length, single, factor, grown)
    norm.input[0] = "grown"


def query_and_key_swapped(model: onnx.ModelProto) -> None:
    node = made_by(model, "transformer.h.4.attn.query")
    node.output[0], node.output[1] = node.output[1], node.output[0]


def rare_token_moved(model: onnx.ModelProto) -> None:
    value = weight(model, "transformer.wte.weight")
    (value if value.shape[1] == HIDDEN else value.T)[57] *= 1.1
    store(model, "transformer.wte.weight", value)


def scale_of_one_block(model: onnx.ModelProto) -> None:
    name = "transformer.h.2.mlp.c_fc.weight.scales"
    value = weight(model, name)
    value.reshape(-1)[77] *= 4
    store(model, name, value)


def codes_of_one_row(model: onnx.ModelProto) -> None:
    name = next(t.name for t in model.graph.initializer if t.name.startswith("transformer.h.3.attn.c_proj.weight.q"))
    value = weight(model, name)
    value[9] = value[10]
    store(model, name, value)


def scales_of_two_layers_swapped(model: onnx.ModelProto) -> None:
    a, b = (f"transformer.h.{layer}.attn.c_attn.weight.scales" for layer in (1, 2))
    first, second = weight(model, a), weight(model, b)
    store(model, a, second)
    store(model, b, first)


def head_scale(model: onnx.ModelProto) -> None:
    name = "transformer.wte.weight.scales"
    value = weight(model, name)
    value[200:210] *= 1.3
    store(model, name, value)


FUSED = (
    planted.positions_ignored,
    planted.past_off_by_one,
    planted.weight_not_a_number,
    planted.last_position_wrong,
    planted_fused.mask_ignored,
    planted_fused.not_causal,
    planted_fused.default_scale_times_two,
    planted_fused.past_of_another_layer,
    planted_fused.presents_swapped,
    planted_fused.exact_gelu,
    planted_fused.bias_dropped,
    bias_of_one_head_swapped,
    mask_wrong_in_the_second_row,
    positions_shifted_beyond_the_middle,
    cache_wrong_from_the_third_step,
    wrong_for_one_token,
    query_and_key_swapped,
    rare_token_moved,
)
STANDARD = (
    planted.key_and_value_swapped,
    planted.mask_ignored,
    planted.causal_mask_off_by_one,
    planted.exact_gelu,
    planted.layer_dropped,
    planted.cache_of_one_layer_stale,
    positions_shifted_beyond_the_middle,
    presents_swapped_in_the_standard_graph,
    cache_wrong_from_the_third_step,
)
QUANTIZED = (
    scale_of_one_block,
    scales_of_two_layers_swapped,
    norm_bias_moved,
    planted_fused.mask_ignored,
    planted_fused.past_of_another_layer,
    planted_fused.large_epsilon,
    planted_fused.last_logits_first,
    cache_wrong_from_the_third_step,
    head_scale,
)
WEIGHTS = (codes_of_one_row, head_scale)
