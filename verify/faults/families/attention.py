"""Faults in attention: its scale, its heads, and what is query, key and value."""

from __future__ import annotations

import numpy as np

from model.landmarks import Landmarks, Projection
from verify.check import Array
from verify.faults.fault import Role, Subject, fault
from verify.faults.surgery import (
    Graft,
    attribute,
    change_outputs,
    constant,
    exchange,
    must_make,
    operators,
    read,
    rewire,
    set_attribute,
    write,
)


def _attended(number: int) -> Role:
    return lambda at: at.layer(number).attended


def _scores(at: Landmarks) -> str:
    """Return what is wrong first where scores are: they themselves, or what one operator makes of them."""
    return at.layer(1).scores or at.layer(1).attended


def _scale(subject: Subject, number: int, factor: float) -> None:
    """Multiply one layer's scores: by the attribute of attention's operator, or where they are spelt out."""
    layer = subject.at.layer(number)
    if layer.scores is not None:
        rewire(subject.model, layer.scores, lambda graft, right: graft.op("Mul", right, graft.number(factor)))
        return
    node = must_make(subject.model, layer.attended)
    set_attribute(node, "scale", attribute(node, "scale") * factor)


@fault(node=_scores, magnitude=0.1)
def attention_scale(subject: Subject, magnitude: float) -> None:
    """One layer multiplies its scores by a little more than 1 / sqrt(width)."""
    _scale(subject, 1, 1 + magnitude)


@fault(node=_scores)
def scaled_by_the_layers_number(subject: Subject) -> None:
    """Scores are divided by the layer's number too, as some models have it."""
    for number in range(1, len(subject.at.layers)):
        _scale(subject, number, 1 / (number + 1))


@fault(node=lambda at: at.layer(1).query.module)
def heads_swapped(subject: Subject) -> None:
    """Queries and keys of one layer go to the next head, values do not."""
    layer, dims = subject.at.layer(1), subject.dims

    def moved(part: Projection, heads: int) -> None:
        places = np.asarray(part.outputs)

        def roll(rows: Array) -> Array:
            rows[places] = np.roll(rows[places], heads * dims.head_dim, axis=0)
            return rows

        change_outputs(subject.model, f"{part.module}.weight", roll, scales=False)

    moved(layer.query, dims.heads // dims.kv_heads)
    moved(layer.key, 1)


@fault(node=lambda at: at.layer(2).query.module)
def one_heads_bias_swapped(subject: Subject) -> None:
    """The biases of the queries of the first two heads have changed places."""
    width, query = subject.dims.head_dim, subject.at.layer(2).query
    bias, places = read(subject.model, f"{query.module}.bias"), np.asarray(query.outputs)
    bias[places[: 2 * width]] = bias[[*places[width : 2 * width], *places[:width]]]
    write(subject.model, f"{query.module}.bias", bias)


@fault(node=lambda at: at.layer(2).key.module)
def key_bias_dropped(subject: Subject) -> None:
    """The keys of one layer have no bias: attention is indifferent to it, the cache that others continue is not."""
    key = subject.at.layer(2).key
    bias = read(subject.model, f"{key.module}.bias")
    bias[np.asarray(key.outputs)] = 0
    write(subject.model, f"{key.module}.bias", bias)


@fault(node=lambda at: at.layer(0).key.value)
def key_and_value_swapped(subject: Subject) -> None:
    """Keys of the first layer are used as values and values as keys."""
    layer = subject.at.layer(0)
    exchange(subject.model, layer.key.value, layer.value.value, made=True)


@fault(node=_attended(3), magnitude=0.2)
def one_head_too_weak(subject: Subject, magnitude: float) -> None:
    """One layer adds less of what its last head found."""
    dims = subject.dims
    factor = np.ones(dims.heads * dims.head_dim, np.float32)
    factor[-dims.head_dim :] -= magnitude

    def weaker(graft: Graft, right: str) -> str:
        return graft.op("Mul", right, graft.number(factor))

    rewire(subject.model, subject.at.layer(3).attended, weaker)


@fault(node=_attended(3))
def mask_not_given_to_one_layer(subject: Subject) -> None:
    """One layer's attention gets no mask: it sees the future."""
    model, layer = subject.model, subject.at.layer(3)
    if layer.scores is None:
        must_make(model, layer.attended).input[5] = ""
        return
    masking = next(node for node in operators(model, "Add") if layer.scores in node.input)
    (place,) = (place for place, name in enumerate(masking.input) if name != layer.scores)
    masking.input[place] = constant(model, "planted.no_mask", np.float32(0))
