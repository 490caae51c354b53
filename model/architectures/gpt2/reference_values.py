"""The true values inside a call of GPT-2, by the names of the fused graph and by PyTorch's module paths."""

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
    found["embeddings"] = found[f"in.{at.layers[0].attention_norm}"]
    found |= {**truth.layers(call, at), **truth.products(call)}
    for number in range(len(at.layers)):
        found |= _attention(call, number)
    return truth.by_module(found)


def _attention(call: Call, number: int) -> dict[str, Truth]:
    """The values between one layer's joint projection and what its heads found, as `fused` names them."""
    own, real = landmarks(call.config).layers[number], call.real[:, None]
    name = own.attended.rpartition(".")[0]
    parts = _parts(call, number)
    steps = dict(truth.attention(call, number, name, parts, scale(call.config, number)))
    joint = np.concatenate(parts, axis=2)
    turned = Truth(joint.swapaxes(1, 2), real)
    found = {f"{name}.{part}": steps[f"{name}: {part} by head"] for part in ("query", "key", "value")}
    found |= {f"{name}.apart": Truth(joint, call.real[..., None]), f"{name}.turned": turned, f"{name}.joint": turned}
    return found | truth.in_graph(name, steps)


def spelt_out(call: Call, layer: int) -> Iterator[tuple[str, Truth]]:
    """Yield attention and activation of one layer step by step."""
    own = landmarks(call.config).layers[layer]
    name = own.attended.rpartition(".")[0]
    yield from truth.attention(call, layer, name, _parts(call, layer), scale(call.config, layer))
    up = call.arrays[f"out.{own.up}"]
    yield from ((f"{own.activation}: {step}", Truth(found, call.real)) for step, found in _gelu(up))


def scale(config: Mapping[str, Any], layer: int) -> float:
    """Return what the products of queries and keys are multiplied with."""
    found = (config["n_embd"] // config["n_head"]) ** -0.5 if config["scale_attn_weights"] else 1.0
    return float(found / (layer + 1) if config["scale_attn_by_inverse_layer_idx"] else found)


def _parts(call: Call, layer: int) -> tuple[Array, Array, Array]:
    """Queries, keys and values, each float32 [batch, sequence, heads, width]."""
    own, width = landmarks(call.config).layers[layer], call.config["n_embd"] // call.config["n_head"]
    query, key, value = (truth.apart(call.projected(part), width) for part in (own.query, own.key, own.value))
    return query, key, value


def _gelu(x: Array) -> Iterator[tuple[str, Array]]:
    """The steps of 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))."""
    cube, root = x**3, np.float32(np.sqrt(2 / np.pi))
    inner = x + np.float32(0.044715) * cube
    curve = np.tanh(root * inner)
    yield from {
        "half": x / 2,
        "square": x**2,
        "cube": cube,
        "cube scaled": np.float32(0.044715) * cube,
        "sum": inner,
        "sum scaled": root * inner,
        "tanh": curve,
        "one more": curve + 1,
    }.items()
