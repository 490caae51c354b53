"""The true values inside a call of GPT-NeoX, by the names of the graph and by PyTorch's module paths."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from model import truth
from model.architectures.llama import rope
from model.architectures.llama.reference_values import Turning, rotated, turn, turning_of
from model.truth import Array, Call, Truth

from .config import rotated_width, turning, values_of
from .landmarks import landmarks

_erf = np.vectorize(math.erf, otypes=[np.float32])


def named(call: Call) -> dict[str, Truth]:
    """Return every tensor that has a name."""
    at = landmarks(call.config)
    found = {**truth.modules(call), **truth.masks(call), **truth.ends(call, at), **turn(call, _turning(call))}
    found |= {**truth.layers(call, at), **truth.products(call)}
    for number, layer in enumerate(at.layers):
        found |= _attention(call, number)
        if layer.middle is None:
            both = call.arrays[f"out.{layer.down}"] + call.arrays[f"out.{layer.out}"]
            found[f"{layer.block}.both"] = Truth(both, call.real)
    return truth.by_module(found)


def spelt_out(call: Call, layer: int) -> Iterator[tuple[str, Truth]]:
    """Yield attention and activation of one layer step by step."""
    own = landmarks(call.config).layers[layer]
    _, parts = _parts(call, layer)
    yield from truth.attention(call, layer, _name(call, layer), parts, scale(call.config, layer))
    up = call.arrays[f"out.{own.up}"]
    yield from ((f"{own.activation}: {step}", Truth(found, call.real)) for step, found in _gelu(up))


def scale(config: Mapping[str, Any], layer: int) -> float:  # noqa: ARG001  # the same in every layer
    """Return what the products of queries and keys are multiplied with."""
    values = values_of(config)
    return float((values["hidden_size"] // values["num_attention_heads"]) ** -0.5)


def _attention(call: Call, number: int) -> dict[str, Truth]:
    """The values between one layer's joint projection and what its heads found, as the graph names them."""
    name, real, first = _name(call, number), call.real[:, None], rotated_width(values_of(call.config))
    straight, parts = _parts(call, number)
    steps = dict(truth.attention(call, number, name, parts, scale(call.config, number)))
    joint = np.concatenate(straight, axis=-1)
    by_head = Truth(joint.swapaxes(1, 2), real)
    found = {f"{name}.apart": Truth(joint, call.real[..., None]), f"{name}.turned": by_head, f"{name}.joint": by_head}
    for part, before, after in zip(("query", "key"), straight, parts, strict=False):
        shares = {"straight": before[..., :first], "unturned": before[..., first:], "rotated": after[..., :first]}
        found |= {f"{name}.{part}.{share}": Truth(value.swapaxes(1, 2), real) for share, value in shares.items()}
    found |= {f"{name}.{part}": steps[f"{name}: {part} by head"] for part in ("query", "key", "value")}
    return found | truth.in_graph(name, steps)


def _name(call: Call, layer: int) -> str:
    return landmarks(call.config).layers[layer].attended.rpartition(".")[0]


def _parts(call: Call, layer: int) -> tuple[tuple[Array, Array, Array], tuple[Array, Array, Array]]:
    """Queries, keys and values as projected, and with the first two turned: [batch, sequence, heads, width] each."""
    values = values_of(call.config)
    own, width = landmarks(call.config).layers[layer], values["hidden_size"] // values["num_attention_heads"]
    query, key, value = (truth.apart(call.projected(part), width) for part in (own.query, own.key, own.value))
    first, angles = rotated_width(values), _turning(call)
    turned_query, turned_key = (
        np.concatenate([rotated(part[..., :first], angles), part[..., first:]], axis=-1) for part in (query, key)
    )
    return (query, key, value), (turned_query, turned_key, value)


def _turning(call: Call) -> Turning:
    values = values_of(call.config)
    return turning_of(call, *rope.frequencies(turning(values), rotated_width(values)))


def _gelu(x: Array) -> Iterator[tuple[str, Array]]:
    """The steps of x (1 + erf(x / sqrt(2))) / 2, as `standard` writes them."""
    inner = x / np.float32(math.sqrt(2))
    curve = _erf(inner)
    yield from {
        "divided": inner,
        "erf": curve,
        "one more": curve + 1,
        "twice": x * (curve + 1),
    }.items()
