"""The true values inside a call of the Llama family, by the names of the graph and by PyTorch's module paths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from model import truth
from model.truth import Array, Call, Truth

from . import rope
from .config import values_of, windows
from .landmarks import landmarks

Turning = tuple[Array, Array, Array]  # angles, their cosines and sines
GROUPED = ("query scaled", "scores", "scores masked", "probabilities", "context")  # what rows by keys are made of


def named(call: Call) -> dict[str, Truth]:
    """Return every tensor that has a name."""
    at = landmarks(call.config)
    found = {**truth.modules(call), **truth.masks(call, windows(call.config)), **truth.ends(call, at)}
    found |= turn(call, _turning(call))
    for number in range(len(at.layers)):
        found |= _attention(call, number)
    found = truth.by_module({**found, **truth.layers(call, at), **truth.products(call)})
    return found | {f"{layer.block}.mlp.inner": found[f"in.{layer.down}"] for layer in at.layers}


def spelt_out(call: Call, layer: int) -> Iterator[tuple[str, Truth]]:
    """Yield attention and activation of one layer step by step."""
    own = landmarks(call.config).layers[layer]
    yield from _steps(call, layer)
    gate = call.arrays[f"out.{own.gate}"]
    yield f"{own.activation}: sigmoid", Truth(1 / (1 + np.exp(-gate)), call.real)


def scale(config: Mapping[str, Any], layer: int) -> float:  # noqa: ARG001  # the same in every layer
    """Return what the products of queries and keys are multiplied with."""
    return float(values_of(config)["head_dim"] ** -0.5)


def turn(call: Call, turning: Turning) -> dict[str, Truth]:
    """Return angles, cosines and sines of a call's positions, as both forms name them."""
    angles, cosine, sine = (one[:, None] for one in turning)
    real, rows = call.real[:, None], call.real.reshape(-1, 1)
    found = {name: Truth(value, real) for name, value in (("angles", angles), ("cosine", cosine), ("sine", sine))}
    both, signed = np.concatenate([cosine, cosine], axis=-1), np.concatenate([-sine, sine], axis=-1)
    found |= {"cosine.both": Truth(both, real), "sine.signed": Truth(signed, real)}
    for name, value in (("cosine", cosine), ("sine", sine)):
        found[f"{name}.scaled"] = found[name]
        flat = Truth(value.reshape(-1, value.shape[-1]), rows)
        found |= {f"{name}.rows": flat, f"{name}.scaled.rows": flat}
    return found


def _attention(call: Call, number: int) -> dict[str, Truth]:
    """The values between one layer's projections and what its heads found, as the graph names them."""
    name, real = _name(call, number), call.real[:, None]
    query, key, _ = _parts(call, number)
    steps = dict(_steps(call, number))
    found = {
        f"{name}.{step.replace('query ', 'query.').replace('scores ', 'scores.')}": _grouped(
            call, steps[f"{name}: {step}"]
        )
        for step in GROUPED
    }
    return found | {
        f"{name}.query": Truth(query.swapaxes(1, 2), real),
        f"{name}.key": Truth(key.swapaxes(1, 2), real),
        f"{name}.context.turned": steps[f"{name}: context by position"],
    }


def _steps(call: Call, layer: int) -> Iterator[tuple[str, Truth]]:
    parts, window = _parts(call, layer), windows(call.config)[layer]
    return truth.attention(call, layer, _name(call, layer), parts, scale(call.config, layer), window=window)


def _grouped(call: Call, found: Truth) -> Truth:
    """Return [batch, heads, sequence, x] as [batch, key heads, rows of all queries that read the same keys, x]."""
    batch, heads, length, width = found.value.shape
    shared = values_of(call.config)["num_key_value_heads"]
    real = np.broadcast_to(call.real[:, None], (batch, heads, length, 1))
    return Truth(found.value.reshape(batch, shared, -1, width), real.reshape(batch, shared, -1, 1), mask=found.mask)


def _name(call: Call, layer: int) -> str:
    return landmarks(call.config).layers[layer].attended.rpartition(".")[0]


def _parts(call: Call, layer: int) -> tuple[Array, Array, Array]:
    """Queries and keys, turned, and values: float32 [batch, sequence, heads, head_dim]."""
    own, width = landmarks(call.config).layers[layer], values_of(call.config)["head_dim"]
    query, key, value = (truth.apart(call.projected(part), width) for part in (own.query, own.key, own.value))
    query, key = (
        call.arrays.get(f"out.{part.module.replace('_proj', '_norm')}", found)
        for part, found in ((own.query, query), (own.key, key))
    )
    turning = _turning(call)
    return rotated(query, turning), rotated(key, turning), value


def rotated(value: Array, turning: Turning) -> Array:
    """Return queries or keys [batch, sequence, heads, 2 * pairs] turned."""
    _, cosine, sine = (np.concatenate([one, one], axis=-1)[:, :, None] for one in turning)
    first, second = np.split(value, 2, axis=-1)
    turned: Array = value * cosine + np.concatenate([-second, first], axis=-1) * sine
    return turned


def turning_of(call: Call, frequencies: Array, factor: float) -> Turning:
    """Return the angle of each pair of numbers, its cosine and sine, scaled: float32 [batch, sequence, pairs]."""
    angles: Array = call.arrays["positions"][..., None].astype(np.float32) * frequencies
    return angles, np.cos(angles) * np.float32(factor), np.sin(angles) * np.float32(factor)


def _turning(call: Call) -> Turning:
    return turning_of(call, *rope.frequencies(call.config, values_of(call.config)["head_dim"]))
