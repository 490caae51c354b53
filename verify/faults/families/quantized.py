"""Faults of quantized weights: codes, scales, zero points, and the arithmetic of the products."""

from __future__ import annotations

import numpy as np
import onnx

from model.landmarks import Landmarks
from pipeline.variants import model_file
from verify.check import Array
from verify.faults.fault import InapplicableError, Subject, fault
from verify.faults.surgery import (
    Graft,
    attribute,
    change_scales,
    is_quantized,
    operators,
    parts,
    read,
    rewire,
    set_attribute,
    write,
)

BOTH = ("q8", "q4")


def _up(at: Landmarks) -> str:
    return at.layer(2).up


def _joint(at: Landmarks) -> str:
    return at.layer(0).query.module


def _codes(model: onnx.ModelProto, weight: str) -> str:
    """The name of the codes of a weight (of 6 bits, of their high part)."""
    return next(name for name in parts(model, weight) if ".q" in name)


@fault(node=_up, variants=BOTH, magnitude=0.02)
def one_scale_of_one_block(subject: Subject, magnitude: float) -> None:
    """One scale of one block is off."""
    name = f"{_up(subject.at)}.weight.scales"
    scales = read(subject.model, name)
    scales[40, 1] *= 1 + magnitude
    write(subject.model, name, scales)


@fault(node=lambda at: at.embedding, variants=BOTH, magnitude=0.02)
def one_scale_of_a_rare_token(subject: Subject, magnitude: float) -> None:
    """One scale of a token that the text never holds is off."""

    def change(scales: Array) -> Array:
        scales[subject.unseen[0], 0] *= 1 + magnitude
        return scales

    change_scales(subject.model, f"{subject.at.embedding}.weight", change)


@fault(node=lambda at: at.layer(3).down, variants=BOTH, magnitude=0.002)
def all_scales_of_a_layer(subject: Subject, magnitude: float) -> None:
    """All scales of one layer are too large by less than the quantization's own error."""
    name = f"{subject.at.layer(3).down}.weight.scales"
    write(subject.model, name, read(subject.model, name) * (1 + magnitude))


@fault(node=_joint, variants=BOTH)
def scales_in_float16(subject: Subject) -> None:
    """All scales of products have been float16."""
    for name in {node.input[2] for node in operators(subject.model, "MatMulNBits")}:
        write(subject.model, name, read(subject.model, name).astype(np.float16))


@fault(node=_up, variants=BOTH)
def one_code(subject: Subject) -> None:
    """A single code is off by one, the least that a quantized weight can be."""
    name = _codes(subject.model, f"{_up(subject.at)}.weight")
    value = read(subject.model, name)
    value[40, 1, 3] ^= 1
    write(subject.model, name, value)


@fault(node=_up, variants=BOTH)
def scales_of_the_neighbour(subject: Subject) -> None:
    """Two outputs of one layer have each other's scales."""
    name = f"{_up(subject.at)}.weight.scales"
    scales = read(subject.model, name)
    scales[[20, 21]] = scales[[21, 20]]
    write(subject.model, name, scales)


@fault(node=_up, variants=BOTH)
def blocks_exchanged(subject: Subject) -> None:
    """Two blocks of one output have changed places, with their scales."""
    for name in parts(subject.model, f"{_up(subject.at)}.weight"):
        if not name.endswith("zero_points"):
            value = read(subject.model, name)
            value[20, [0, 1]] = value[20, [1, 0]]
            write(subject.model, name, value)


@fault(node=_up, variants=("q4",))
def zero_point_off_by_one(subject: Subject) -> None:
    """One block's zero point is off by one."""
    name = f"{_up(subject.at)}.weight.zero_points"
    value = read(subject.model, name)
    value[40, 0] ^= 1
    write(subject.model, name, value)


@fault(node=_up, variants=("q4",))
def nibbles_exchanged(subject: Subject) -> None:
    """The two codes of every byte of one output have changed places."""
    name = _codes(subject.model, f"{_up(subject.at)}.weight")
    if attribute(_product(subject.model, name), "bits") != 4:
        raise InapplicableError("the layer has no codes of 4 bits")
    value = read(subject.model, name)
    value[9] = (value[9] << 4) | (value[9] >> 4)
    write(subject.model, name, value)


@fault(node=_up, variants=("q8",))
def codes_read_as_signed(subject: Subject) -> None:
    """The codes of one output are two's complement, which the product takes for unsigned."""
    name = _codes(subject.model, f"{_up(subject.at)}.weight")
    value = read(subject.model, name)
    value[9] ^= 0x80
    write(subject.model, name, value)


@fault(node=_joint, variants=("q4",))
def activations_in_int8(subject: Subject) -> None:
    """All products round their activations to int8, which this variant does not."""
    nodes = [node for node in operators(subject.model, "MatMulNBits") if attribute(node, "accuracy_level") != 4]
    if not nodes:
        raise InapplicableError("all products round their activations already")
    for node in nodes:
        set_attribute(node, "accuracy_level", 4)


@fault(node=lambda at: at.layer(3).activation)
def one_scale_for_all_activations(subject: Subject) -> None:
    """One layer's activations are rounded to 8 bits with one scale for the whole batch, as stock dynamic int8 does."""

    def rounded(graft: Graft, right: str) -> str:
        low = graft.op("ReduceMin", right, keepdims=0)
        width = graft.op("Div", graft.op("Sub", graft.op("ReduceMax", right, keepdims=0), low), graft.number(255))
        steps = graft.op("Round", graft.op("Div", graft.op("Sub", right, low), width))
        return graft.op("Add", graft.op("Mul", steps, width), low)

    rewire(subject.model, subject.at.layer(3).activation, rounded)


@fault(node=lambda at: at.embedding, variants=BOTH, magnitude=0.01)
def centre_of_the_head(subject: Subject, magnitude: float) -> None:
    """The head takes more off one of its inputs than it puts back."""
    _change(subject, "centre", 7, magnitude)


@fault(node=lambda at: at.embedding, variants=BOTH, magnitude=0.01)
def offset_of_a_rare_token(subject: Subject, magnitude: float) -> None:
    """The head puts back too much for one token that the text never holds."""
    _change(subject, "offset", subject.unseen[0], magnitude)


@fault(variants=BOTH)
def file_of_the_other_variant(subject: Subject) -> None:
    """The file of 4 bits holds the weights of 8, or that of 8 bits those of 4."""
    other = "q4" if subject.variant == "q8" else "q8"
    subject.model.CopyFrom(onnx.load(subject.clean / other / model_file(other)))


@fault(variants=("fp32", "fp16"))
def file_of_a_quantized_variant(subject: Subject) -> None:
    """The file of floats holds the weights of 8 bits."""
    subject.model.CopyFrom(onnx.load(subject.clean / "q8" / model_file("q8")))


def _change(subject: Subject, part: str, at: int, by: float) -> None:
    """Add to one number of what the head takes off its input or adds to its logits; of tiers, to that which has it."""
    stem = f"{subject.at.embedding}.weight"
    names = [tensor.name for tensor in subject.model.graph.initializer]
    for name in (name for name in names if name.startswith(stem) and name.endswith(f".{part}")):
        values = read(subject.model, name)
        if at < len(values):
            values[at] += by
            write(subject.model, name, values)
            return
        at -= len(values)
    raise InapplicableError("no centre that the head takes off its input")


def _product(model: onnx.ModelProto, codes: str) -> onnx.NodeProto:
    if not is_quantized(model, codes.rpartition(".q")[0]):
        raise InapplicableError(f"{codes} are no codes")
    return next(node for node in operators(model, "MatMulNBits") if codes in node.input)
