"""Faults in numbers: a row, a bias, a norm, a table's entry; in any form that the weight is stored in."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import helper, numpy_helper

from model.landmarks import Landmarks
from verify.check import Array
from verify.faults.fault import InapplicableError, Subject, fault
from verify.faults.surgery import (
    change_outputs,
    is_quantized,
    operators,
    parts,
    position_table,
    read,
    tensor,
    write,
)


def _up(at: Landmarks) -> str:
    return at.layer(2).up


def _table(subject: Subject) -> str:
    return f"{subject.at.embedding}.weight"


def _scaled(rows: list[int] | slice, factor: float) -> Callable[[Array], Array]:
    def change(value: Array) -> Array:
        value[rows] = value[rows] * factor
        return value

    return change


@fault(node=_up, magnitude=0.02)
def one_output_scaled(subject: Subject, magnitude: float) -> None:
    """All weights of one output of one layer are too large."""
    change_outputs(subject.model, f"{_up(subject.at)}.weight", _scaled([17], 1 + magnitude), scales=True)


@fault(node=lambda at: at.layer(4).down, magnitude=0.02)
def one_layer_scaled(subject: Subject, magnitude: float) -> None:
    """All weights of one layer are too large."""
    weight = f"{subject.at.layer(4).down}.weight"
    change_outputs(subject.model, weight, _scaled(slice(None), 1 + magnitude), scales=True)


@fault(node=lambda at: at.embedding)
def token_zeroed(subject: Subject) -> None:
    """One token's entry in the table is zero."""
    change_outputs(subject.model, _table(subject), _scaled([1234], 0), scales=True)


@fault(node=lambda at: at.embedding, magnitude=0.05)
def rare_token_scaled(subject: Subject, magnitude: float) -> None:
    """The entries of eight tokens that the text never holds are a little too large."""
    change_outputs(subject.model, _table(subject), _scaled(list(subject.unseen[:8]), 1 + magnitude), scales=True)


@fault(node=lambda at: at.embedding)
def rare_tokens_exchanged(subject: Subject) -> None:
    """The entries of two tokens that the text never holds have changed places."""
    pair = list(subject.unseen[:2])

    def swapped(value: Array) -> Array:
        value[pair] = value[pair[::-1]]
        return value

    change_outputs(subject.model, _table(subject), swapped, scales=False)


@fault(node=lambda at: at.positions)
def weight_not_a_number(subject: Subject) -> None:
    """One number of the table of positions is NaN, at a place that only long text reads."""
    places = position_table(subject)
    name = next(name for name in parts(subject.model, places) if name in (places, f"{places}.scales"))
    value = read(subject.model, name)
    value[-6, 0] = np.nan
    write(subject.model, name, value)


@fault(node=lambda at: at.positions)
def constant_not_a_number(subject: Subject) -> None:
    """A weight that is a Constant node, as other exporters write them, with a NaN at the context's end."""
    model, places = subject.model, position_table(subject)
    name = next(name for name in parts(model, places) if name in (places, f"{places}.scales"))
    table = read(model, name)
    table[-1, 0] = np.nan
    value = numpy_helper.from_array(table, "table")
    model.graph.node.insert(0, helper.make_node("Constant", [], ["planted.table"], value=value))
    for node in model.graph.node:
        for place, entry in enumerate(node.input):
            if entry == name:
                node.input[place] = "planted.table"
    model.graph.initializer.remove(tensor(model, name))


def _one(subject: Subject, name: str, place: int, magnitude: float) -> None:
    """Change one number of a vector by a part of the vector's root mean square."""
    value = read(subject.model, name)
    value[place] += magnitude * np.sqrt(np.mean(np.square(value, dtype=np.float64)))
    write(subject.model, name, value)


@fault(node=lambda at: at.layer(1).up, magnitude=0.5)
def one_bias(subject: Subject, magnitude: float) -> None:
    """One bias is off by a part of what biases of its layer are."""
    _one(subject, f"{subject.at.layer(1).up}.bias", 5, magnitude)


@fault(node=lambda at: at.layer(5).down)
def bias_dropped(subject: Subject) -> None:
    """The last block's feed-forward part has no bias."""
    name = f"{subject.at.layer(5).down}.bias"
    write(subject.model, name, np.zeros_like(read(subject.model, name)))


@fault(node=lambda at: at.layer(3).feed_forward_norm, magnitude=0.02)
def one_gain_of_a_norm(subject: Subject, magnitude: float) -> None:
    """One weight of one norm is off."""
    _one(subject, f"{subject.at.layer(3).feed_forward_norm}.weight", 7, magnitude)


@fault(node=lambda at: at.final_norm, magnitude=0.05)
def one_shift_of_the_last_norm(subject: Subject, magnitude: float) -> None:
    """One bias of the last norm is off."""
    _one(subject, f"{subject.at.final_norm}.bias", 11, magnitude)


@fault(node=lambda at: at.layer(1).up)
def layers_exchanged(subject: Subject) -> None:
    """Two blocks have each other's first feed-forward weights."""
    model = subject.model
    one, two = (f"{subject.at.layer(number).up}.weight" for number in (1, 2))
    pairs = [(name, name.replace(one, two)) for name in parts(model, one)]
    if [second for _, second in pairs] != parts(model, two):
        raise InapplicableError("the two layers are stored in different forms")
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            for a, b in pairs:
                if name in (a, b):
                    node.input[place] = b if name == a else a
                    break


@fault(node=lambda at: at.layer(2).out, variants=("fp32", "fp16"))
def weight_transposed(subject: Subject) -> None:
    """A square weight is stored the other way round."""
    name = f"{subject.at.layer(2).out}.weight"
    write(subject.model, name, read(subject.model, name).T)


@fault(node=lambda at: at.layer(2).out, variants=("fp32", "fp16"))
def one_sign(subject: Subject) -> None:
    """The sign of a single weight is the other one."""
    name = f"{subject.at.layer(2).out}.weight"
    value = read(subject.model, name)
    value[3, 9] *= -1
    write(subject.model, name, value)


@fault(node=_up, magnitude=0.01)
def noisy_layer(subject: Subject, magnitude: float) -> None:
    """Every weight of one layer (of a quantized one, every scale) has an error of its own."""
    noise = np.random.default_rng(0)

    def change(value: Array) -> Array:
        result: Array = value * (1 + magnitude * noise.standard_normal(value.shape))
        return result

    change_outputs(subject.model, f"{_up(subject.at)}.weight", change, scales=True)


@fault(node=lambda at: at.layer(0).query.module, variants=("fp32",))
def stored_in_float16(subject: Subject) -> None:
    """A file that calls itself fp32 holds weights that have been float16."""
    for name in [node.input[1] for node in operators(subject.model, "MatMul")]:
        if parts(subject.model, name):
            write(subject.model, name, read(subject.model, name).astype(np.float16))


@fault(node=lambda at: at.layer(0).query.module, variants=("fp16",))
def small_weights_flushed(subject: Subject) -> None:
    """Weights below the smallest normal float16 are zero."""
    for name in [node.input[1] for node in operators(subject.model, "MatMul")]:
        if not is_quantized(subject.model, name):
            value = read(subject.model, name)
            value[np.abs(value) < np.finfo(np.float16).tiny] = 0
            write(subject.model, name, value)
