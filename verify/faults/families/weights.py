"""Faults in numbers: a row, a bias, a norm, a table's entry; in any form that the weight is stored in."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import helper, numpy_helper

from verify.check import Array
from verify.faults.fault import InapplicableError, Subject, fault
from verify.faults.surgery import (
    change_outputs,
    is_quantized,
    operators,
    parts,
    read,
    tensor,
    write,
)

UP, TABLE, PLACES = "transformer.h.2.mlp.c_fc.weight", "transformer.wte.weight", "transformer.wpe.weight"


def _scaled(rows: list[int] | slice, factor: float) -> Callable[[Array], Array]:
    def change(value: Array) -> Array:
        value[rows] = value[rows] * factor
        return value

    return change


@fault(node="transformer.h.2.mlp.c_fc", magnitude=0.02)
def one_output_scaled(subject: Subject, magnitude: float) -> None:
    """All weights of one output of one layer are too large."""
    change_outputs(subject.model, UP, _scaled([17], 1 + magnitude), scales=True)


@fault(node="transformer.h.4.mlp.c_proj", magnitude=0.02)
def one_layer_scaled(subject: Subject, magnitude: float) -> None:
    """All weights of one layer are too large."""
    change_outputs(subject.model, "transformer.h.4.mlp.c_proj.weight", _scaled(slice(None), 1 + magnitude), scales=True)


@fault(node="transformer.wte")
def token_zeroed(subject: Subject) -> None:
    """One token's entry in the table is zero."""
    change_outputs(subject.model, TABLE, _scaled([1234], 0), scales=True)


@fault(node="transformer.wte", magnitude=0.05)
def rare_token_scaled(subject: Subject, magnitude: float) -> None:
    """The entries of eight tokens that the text never holds are a little too large."""
    change_outputs(subject.model, TABLE, _scaled(list(subject.unseen[:8]), 1 + magnitude), scales=True)


@fault(node="transformer.wte")
def rare_tokens_exchanged(subject: Subject) -> None:
    """The entries of two tokens that the text never holds have changed places."""
    pair = list(subject.unseen[:2])

    def swapped(value: Array) -> Array:
        value[pair] = value[pair[::-1]]
        return value

    change_outputs(subject.model, TABLE, swapped, scales=False)


@fault(node="transformer.wpe")
def weight_not_a_number(subject: Subject) -> None:
    """One number of the table of positions is NaN, at a place that only long text reads."""
    name = next(name for name in parts(subject.model, PLACES) if name in (PLACES, f"{PLACES}.scales"))
    value = read(subject.model, name)
    value[-6, 0] = np.nan
    write(subject.model, name, value)


@fault(node="transformer.wpe")
def constant_not_a_number(subject: Subject) -> None:
    """A weight that is a Constant node, as other exporters write them, with a NaN at the context's end."""
    model = subject.model
    name = next(name for name in parts(model, PLACES) if name in (PLACES, f"{PLACES}.scales"))
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


@fault(node="transformer.h.1.mlp.c_fc", magnitude=0.5)
def one_bias(subject: Subject, magnitude: float) -> None:
    """One bias is off by a part of what biases of its layer are."""
    _one(subject, "transformer.h.1.mlp.c_fc.bias", 5, magnitude)


@fault(node="transformer.h.5.mlp.c_proj")
def bias_dropped(subject: Subject) -> None:
    """The last block's feed-forward part has no bias."""
    name = "transformer.h.5.mlp.c_proj.bias"
    write(subject.model, name, np.zeros_like(read(subject.model, name)))


@fault(node="transformer.h.3.ln_2", magnitude=0.02)
def one_gain_of_a_norm(subject: Subject, magnitude: float) -> None:
    """One weight of one norm is off."""
    _one(subject, "transformer.h.3.ln_2.weight", 7, magnitude)


@fault(node="transformer.ln_f", magnitude=0.05)
def one_shift_of_the_last_norm(subject: Subject, magnitude: float) -> None:
    """One bias of the last norm is off."""
    _one(subject, "transformer.ln_f.bias", 11, magnitude)


@fault(node="transformer.h.1.mlp.c_fc")
def layers_exchanged(subject: Subject) -> None:
    """Two blocks have each other's first feed-forward weights."""
    model = subject.model
    one, two = ("transformer.h.1.mlp.c_fc.weight", "transformer.h.2.mlp.c_fc.weight")
    pairs = [(name, name.replace(one, two)) for name in parts(model, one)]
    if [second for _, second in pairs] != parts(model, two):
        raise InapplicableError("the two layers are stored in different forms")
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            for a, b in pairs:
                if name in (a, b):
                    node.input[place] = b if name == a else a
                    break


@fault(node="transformer.h.2.attn.c_proj", variants=("fp32", "fp16"))
def weight_transposed(subject: Subject) -> None:
    """A square weight is stored the other way round."""
    name = "transformer.h.2.attn.c_proj.weight"
    write(subject.model, name, read(subject.model, name).T)


@fault(node="transformer.h.2.attn.c_proj", variants=("fp32", "fp16"))
def one_sign(subject: Subject) -> None:
    """The sign of a single weight is the other one."""
    name = "transformer.h.2.attn.c_proj.weight"
    value = read(subject.model, name)
    value[3, 9] *= -1
    write(subject.model, name, value)


@fault(node="transformer.h.2.mlp.c_fc", magnitude=0.01)
def noisy_layer(subject: Subject, magnitude: float) -> None:
    """Every weight of one layer (of a quantized one, every scale) has an error of its own."""
    noise = np.random.default_rng(0)

    def change(value: Array) -> Array:
        result: Array = value * (1 + magnitude * noise.standard_normal(value.shape))
        return result

    change_outputs(subject.model, UP, change, scales=True)


@fault(node="transformer.h.0.attn.c_attn", variants=("fp32",))
def stored_in_float16(subject: Subject) -> None:
    """A file that calls itself fp32 holds weights that have been float16."""
    for node in operators(subject.model, "MatMul"):
        name = node.input[1]
        write(subject.model, name, read(subject.model, name).astype(np.float16))


@fault(node="transformer.h.0.attn.c_attn", variants=("fp16",))
def small_weights_flushed(subject: Subject) -> None:
    """Weights below the smallest normal float16 are zero."""
    for name in [node.input[1] for node in operators(subject.model, "MatMul")]:
        if not is_quantized(subject.model, name):
            value = read(subject.model, name)
            value[np.abs(value) < np.finfo(np.float16).tiny] = 0
            write(subject.model, name, value)
