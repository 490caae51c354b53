"""The true values inside a call of Llama, by the names of the graph and by PyTorch's module paths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from model import truth
from model.truth import Array, Call, Truth

from .landmarks import landmarks


def named(call: Call) -> dict[str, Truth]:
    """Return every tensor that has a name."""
    at = landmarks(call.config)
    found = {**truth.modules(call), **truth.masks(call), **truth.ends(call, at)}
    angles, real = _angles(call)[:, None], call.real[:, None]
    found |= {"angles": Truth(angles, real), "cosine": Truth(np.cos(angles), real), "sine": Truth(np.sin(angles), real)}
    for number, layer in enumerate(at.layers):
        name = layer.attended.rpartition(".")[0]
        query, key, _ = _parts(call, number)
        found |= {f"{name}.query": Truth(query.swapaxes(1, 2), real), f"{name}.key": Truth(key.swapaxes(1, 2), real)}
        steps = dict(spelt_out(call, number))
        found[f"{name}.scores"] = steps[f"{name}: scores"]
        found[f"{name}.scores.masked"] = steps[f"{name}: scores masked"]
        found[f"{name}.probabilities"] = steps[f"{name}: probabilities"]
    return truth.by_module({**found, **truth.layers(call, at), **truth.products(call)})


def spelt_out(call: Call, layer: int) -> Iterator[tuple[str, Truth]]:
    """Yield one layer's attention step by step."""
    name = landmarks(call.config).layers[layer].attended.rpartition(".")[0]
    yield from truth.attention(call, layer, name, _parts(call, layer), scale(call.config, layer))


def scale(config: Mapping[str, Any], layer: int) -> float:  # noqa: ARG001  # the same in every layer
    """Return what the products of queries and keys are multiplied with."""
    return float(config["head_dim"] ** -0.5)


def _parts(call: Call, layer: int) -> tuple[Array, Array, Array]:
    """Queries and keys, turned, and values: float32 [batch, sequence, heads, head_dim]."""
    own, width = landmarks(call.config).layers[layer], call.config["head_dim"]
    query, key, value = (truth.apart(call.projected(part), width) for part in (own.query, own.key, own.value))
    return _rotated(call, query), _rotated(call, key), value


def _rotated(call: Call, value: Array) -> Array:
    angles = np.concatenate([_angles(call)] * 2, axis=-1)[:, :, None]
    first, second = np.split(value, 2, axis=-1)
    turned: Array = value * np.cos(angles) + np.concatenate([-second, first], axis=-1) * np.sin(angles)
    return turned


def _angles(call: Call) -> Array:
    """The angle of each pair of numbers, float32 [batch, sequence, head_dim / 2]."""
    width, base = call.config["head_dim"], np.float32(call.config["rope_theta"])
    frequencies = np.float32(1) / base ** (np.arange(0, width, 2, dtype=np.float32) / np.float32(width))
    angles: Array = call.arrays["positions"][..., None].astype(np.float32) * frequencies
    return angles
