"""Faults in a graph whose cache may stay in place: how its attention is told of the past, and what it writes where."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import helper

from model.landmarks import Landmarks
from verify.faults.fault import IN_PLACE, Subject, fault
from verify.faults.surgery import Graft

OPERATOR = "GroupQueryAttention"
LAST, BIAS, NEW = 5, 10, 16  # inputs: each row's last slot, what is added to scores, each row's new tokens


def _attended(number: int) -> Callable[[Landmarks], str]:
    return lambda at: at.layer(number).attended


def _node(subject: Subject, number: int) -> onnx.NodeProto:
    """The attention of one layer."""
    present = f"present.{subject.at.number(number)}.key"
    nodes = (node for node in subject.model.graph.node if node.op_type == OPERATOR)
    found: onnx.NodeProto = next(node for node in nodes if present in node.output)
    return found


def _set(node: onnx.NodeProto, name: str, value: float) -> None:
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, value)])


def _moved(subject: Subject, number: int, slots: int) -> None:
    """Let one layer believe that the text ends some slots later."""
    graft, node, nodes = Graft(subject.model), _node(subject, number), subject.model.graph.node
    node.input[LAST] = graft.op("Add", node.input[LAST], graft.number([slots], np.int32))
    for entry in graft.nodes:
        nodes.insert(list(nodes).index(_node(subject, number)), entry)


@fault(node=_attended(2), variants=IN_PLACE)
def a_slot_too_many(subject: Subject) -> None:
    """One layer reads a slot behind the text."""
    _moved(subject, 2, 1)


@fault(node=_attended(3), variants=IN_PLACE)
def a_slot_too_few(subject: Subject) -> None:
    """One layer writes the new token over the last one of the past."""
    _moved(subject, 3, -1)


@fault(node=_attended(2), variants=IN_PLACE)
def padding_is_read(subject: Subject) -> None:
    """One layer gets no bias: causality is its operator's own, padding is read."""
    _node(subject, 2).input[BIAS] = ""


@fault(node=_attended(4), variants=IN_PLACE)
def new_tokens_untold(subject: Subject) -> None:
    """One layer is not told how many tokens of each row are new."""
    del _node(subject, 4).input[NEW:]


@fault(node=_attended(1), variants=IN_PLACE, magnitude=0.05)
def wrong_scale_in_place(subject: Subject, magnitude: float) -> None:
    """One layer's scores are multiplied with a wrong scale."""
    node = _node(subject, 1)
    (scale,) = (attribute.f for attribute in node.attribute if attribute.name == "scale")
    _set(node, "scale", scale * (1 + magnitude))


@fault(node=_attended(3), variants=IN_PLACE)
def a_window_in_place(subject: Subject) -> None:
    """One layer reads the last 16 slots only."""
    _set(_node(subject, 3), "local_window_size", 16)


@fault(node=_attended(2), variants=IN_PLACE)
def a_sink_in_place(subject: Subject) -> None:
    """One layer's softmax has 1 more in its denominator."""
    _set(_node(subject, 2), "smooth_softmax", 1)


@fault(node=_attended(3), variants=IN_PLACE)
def buffers_exchanged(subject: Subject) -> None:
    """Two layers write their keys into each other's buffer."""
    one, other = (_node(subject, number) for number in (3, 4))
    one.output[1], other.output[1] = other.output[1], one.output[1]
