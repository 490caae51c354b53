"""Faults in attention: its scale, its heads, and what is query, key and value."""

from __future__ import annotations

import numpy as np

from verify.check import Array
from verify.faults.fault import Subject, fault
from verify.faults.surgery import (
    Graft,
    attribute,
    change_outputs,
    must_make,
    operators,
    read,
    rewire,
    set_attribute,
    write,
)


@fault(node="transformer.h.1.attn.heads", magnitude=0.1)
def attention_scale(subject: Subject, magnitude: float) -> None:
    """One layer multiplies its scores by a little more than 1 / sqrt(width)."""
    node = must_make(subject.model, "transformer.h.1.attn.heads")
    set_attribute(node, "scale", attribute(node, "scale") * (1 + magnitude))


@fault(node="transformer.h.1.attn.heads")
def scaled_by_the_layers_number(subject: Subject) -> None:
    """Scores are divided by the layer's number too, as scale_attn_by_inverse_layer_idx would."""
    for layer, node in enumerate(operators(subject.model, "MultiHeadAttention")):
        set_attribute(node, "scale", attribute(node, "scale") / (layer + 1))


@fault(node="transformer.h.1.attn.c_attn")
def heads_swapped(subject: Subject) -> None:
    """Queries and keys of one layer go to the next head, values do not."""
    hidden, width = subject.dims.hidden, subject.dims.head_dim

    def swapped(rows: Array) -> Array:
        joint = rows[: 2 * hidden].reshape(2, -1, width, *rows.shape[1:])
        return np.concatenate([np.roll(joint, 1, axis=1).reshape(rows[: 2 * hidden].shape), rows[2 * hidden :]])

    change_outputs(subject.model, "transformer.h.1.attn.c_attn.weight", swapped, scales=False)


@fault(node="transformer.h.2.attn.c_attn")
def one_heads_bias_swapped(subject: Subject) -> None:
    """The biases of the queries of the first two heads have changed places."""
    width, name = subject.dims.head_dim, "transformer.h.2.attn.c_attn.bias"
    bias = read(subject.model, name)
    bias[: 2 * width] = np.concatenate([bias[width : 2 * width], bias[:width]])
    write(subject.model, name, bias)


@fault(node="transformer.h.2.attn.c_attn")
def key_bias_dropped(subject: Subject) -> None:
    """The keys of one layer have no bias: attention is indifferent to it, the cache that others continue is not."""
    hidden, name = subject.dims.hidden, "transformer.h.2.attn.c_attn.bias"
    bias = read(subject.model, name)
    bias[hidden : 2 * hidden] = 0
    write(subject.model, name, bias)


@fault(node="transformer.h.0.attn.key")
def key_and_value_swapped(subject: Subject) -> None:
    """Keys of the first layer are used as values and values as keys."""
    outputs = must_make(subject.model, "transformer.h.0.attn.key").output
    outputs[1], outputs[2] = outputs[2], outputs[1]


@fault(node="transformer.h.3.attn.heads", magnitude=0.2)
def one_head_too_weak(subject: Subject, magnitude: float) -> None:
    """What the last head of one layer found counts for less."""
    dims = subject.dims
    factor = np.ones(dims.hidden, np.float32)
    factor[-dims.head_dim :] -= magnitude

    def weaker(graft: Graft, right: str) -> str:
        return graft.op("Mul", right, graft.number(factor))

    rewire(subject.model, "transformer.h.3.attn.heads", weaker)


@fault(node="transformer.h.3.attn.heads")
def mask_not_given_to_one_layer(subject: Subject) -> None:
    """One layer's attention gets no mask: it sees the future."""
    must_make(subject.model, "transformer.h.3.attn.heads").input[5] = ""
