"""Faults in the graph as a whole: its contract with the loaders, and how its blocks are joined."""

from __future__ import annotations

import numpy as np
import onnx

from model.landmarks import Layer
from verify.faults.fault import Subject, fault
from verify.faults.surgery import Graft, constant, must_make, read, read_instead, rename, required, rewire


def _port(model: onnx.ModelProto, name: str) -> onnx.ValueInfoProto:
    found: onnx.ValueInfoProto = next(port for port in [*model.graph.input, *model.graph.output] if port.name == name)
    return found


@fault()
def batch_axis_renamed(subject: Subject) -> None:
    """The batch axis has another name than the one that Transformers.js builds the empty cache from."""
    _port(subject.model, "input_ids").type.tensor_type.shape.dim[0].dim_param = "batch"


@fault()
def sequence_axis_fixed(subject: Subject) -> None:
    """The graph declares that it reads eight tokens, no more and no fewer."""
    _port(subject.model, "input_ids").type.tensor_type.shape.dim[1].dim_value = 8


@fault()
def cache_output_renamed(subject: Subject) -> None:
    """One of the cache's outputs has a name that no loader asks for."""
    name = f"present.{subject.at.number(2)}.key"
    rename(subject.model, {name: f"{name}s"})
    _port(subject.model, name).name = f"{name}s"


@fault()
def opset_too_new(subject: Subject) -> None:
    """The file asks for an opset and an IR version that runtimes in use do not load."""
    subject.model.opset_import[0].version = 22
    subject.model.ir_version = 11


@fault(node="logits")
def head_of_its_own(subject: Subject) -> None:
    """The head multiplies with a second copy of the table: right numbers, 17 to 40 % more bytes."""
    model, at = subject.model, subject.at
    for node in model.graph.node:
        for place, name in enumerate(node.input[1:], start=1):
            if node.name.startswith("logits") and name.startswith(f"{at.embedding}.weight"):
                node.input[place] = f"{at.head}.{name}"
                if not any(tensor.name == f"{at.head}.{name}" for tensor in model.graph.initializer):
                    constant(model, f"{at.head}.{name}", read(model, name))


@fault()
def dead_weight(subject: Subject) -> None:
    """The file carries a tensor that nothing reads, a tenth of its size."""
    size = subject.model.ByteSize() // 10
    constant(subject.model, "leftover", np.random.default_rng(0).integers(0, 255, size, np.uint8))


@fault()
def logits_on_demand_withdrawn(subject: Subject) -> None:
    """The optional input that asks for the last logits only is not offered."""
    subject.model.graph.input.remove(_port(subject.model, "num_logits_to_keep"))


@fault(node="kept")
def last_logits_first(subject: Subject) -> None:
    """Asked for the last positions, the graph gives the first ones; asked for all, it is right."""
    model = subject.model
    cut = must_make(model, "kept")
    _, last, end, axis = list(cut.input)
    begin = constant(model, "planted.begin", np.array([0]))

    nodes = [
        onnx.helper.make_node("Equal", [last, begin], ["planted.all"]),
        onnx.helper.make_node("Neg", [last], ["planted.count"]),
        onnx.helper.make_node("Where", ["planted.all", end, "planted.count"], ["planted.end"]),
    ]
    at = list(model.graph.node).index(cut)
    for offset, node in enumerate(nodes):
        model.graph.node.insert(at + offset, node)
    cut.input[1], cut.input[2], cut.input[3] = begin, "planted.end", axis


@fault(node=lambda at: at.norm_after(3))
def layer_dropped(subject: Subject) -> None:
    """The output of block 3 is not added: block 4 reads what block 3 read."""
    layer = subject.at.layer(3)
    node = must_make(subject.model, layer.block)
    node.input[0] = _zeros(subject.model, node.input[0])
    middle = must_make(subject.model, _middle(layer))
    middle.input[0] = _zeros(subject.model, middle.input[0])


def _middle(layer: Layer) -> str:
    return required(layer.middle, "residual stream between attention and feed-forward part")


def _zeros(model: onnx.ModelProto, value: str) -> str:
    """A value that is zero wherever the given one is finite."""
    name = f"planted.zero.{value}"
    at = list(model.graph.node).index(must_make(model, value)) + 1
    model.graph.node.insert(at, onnx.helper.make_node("Sub", [value, value], [name]))
    return name


@fault(node=lambda at: at.layer(3).block)
def residual_before_attention(subject: Subject) -> None:
    """Block 3's second residual adds to what the block was given, not to what its attention left."""
    layer = subject.at.layer(3)
    must_make(subject.model, layer.block).input[1] = must_make(subject.model, _middle(layer)).input[1]


@fault(node=lambda at: at.layer(2).up)
def norm_of_another_block(subject: Subject) -> None:
    """Block 2's feed-forward part reads the norm that its attention read."""
    model, layer = subject.model, subject.at.layer(2)
    must_make(model, layer.feed_forward_norm).output[0] = "planted.unused"
    read_instead(model, layer.feed_forward_norm, layer.attention_norm)


@fault(node="logits", magnitude=0.01)
def logits_scaled(subject: Subject, magnitude: float) -> None:
    """All logits are a little too large: another temperature, the same top token."""
    rewire(subject.model, "logits", lambda graft, right: graft.op("Mul", right, graft.number(1 + magnitude)))


@fault(node="logits", magnitude=0.5)
def logits_shifted(subject: Subject, magnitude: float) -> None:
    """All logits are too high by the same amount: no probability changes."""
    rewire(subject.model, "logits", lambda graft, right: graft.op("Add", right, graft.number(magnitude)))


@fault(node="kept")
def last_logits_counted_from_the_total(subject: Subject) -> None:
    """Asked for the last positions, the graph counts them within past and present: right without a past alone."""

    def counted(graft: Graft, right: str) -> str:
        asked = graft.op("Less", right, graft.number([0], np.int64))
        return graft.op("Where", asked, graft.op("Add", right, "total_length"), right)

    rewire(subject.model, "first_kept", counted)


@fault()
def output_declared_twice(subject: Subject) -> None:
    """The logits are listed twice among the outputs: a program that counts them gets them at a wrong place."""
    subject.model.graph.output.append(_port(subject.model, "logits"))
