"""GPT-2's tensors by definition: what has no PyTorch module is computed here in numpy from what has.

Allowed positions follow from the attention mask and causality; queries, keys and values from the joint projection; the
cache from past and present; scores, probabilities and context from scale, mask and softmax.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from verify.check import Array, Case

BLOCKED = -1e3  # a score below this is masked, whichever constant an exporter chose (-1e4, the type's least, -inf)


@dataclass(frozen=True)
class Truth:
    """The true value of a tensor.

    `real` says where it counts (broadcastable, None: everywhere): what is computed for padding is nobody's business.
    A `mask` is compared by what it lets through, and by value there.
    """

    value: Array
    real: Array | None = None
    mask: bool = False


@dataclass(frozen=True)
class Definitions:
    """The true values of one call, by the names of `convert`'s fused graph and by PyTorch's module paths."""

    call: Case
    parameters: dict[str, Array]

    @property
    def layers(self) -> int:
        """Number of transformer layers."""
        return int(self.call.facts["layers"])

    def named(self) -> dict[str, Truth]:
        """Every tensor that has a name: `in.<module>`, `out.<module>`, and those of the fused graph."""
        arrays, real = self.call.arrays, self._real
        found = {
            name: Truth(value, real if value.shape[1] == real.shape[1] else None)
            for name, value in arrays.items()
            if name.startswith(("in.", "out."))
        }
        found |= self._masks()
        keep = self.call.facts["keep"]
        normed = found["out.transformer.ln_f"].value
        found["transformer.wte.columns"] = Truth(np.moveaxis(arrays["out.transformer.wte"], -1, 0), real[None, ..., 0])
        found["embeddings"] = found["in.transformer.h.0.ln_1"]
        found["kept"] = Truth(normed[:, -keep:], real[:, -keep:])
        found["logits"] = Truth(arrays["out.lm_head"], real[:, -keep:])
        for layer in range(self.layers):
            found |= self._layer(layer, found)
        modules = {name.removeprefix("out."): truth for name, truth in found.items() if name.startswith("out.")}
        return {**modules, **found}

    def library(self, layer: int) -> Iterator[tuple[str, Truth]]:
        """More of one layer's tensors, as other graphs spell it out; found in a graph by their values."""
        yield from self._attention(layer)
        up = Truth(self.call.arrays[f"out.transformer.h.{layer}.mlp.c_fc"], self._real)
        yield from ((f"transformer.h.{layer}.mlp.act: {name}", Truth(v, up.real)) for name, v in _gelu(up.value))

    @property
    def _real(self) -> Array:
        """Which of the call's tokens are no padding, bool [batch, sequence, 1]."""
        length = self.call.arrays["ids"].shape[1]
        real: Array = (self.call.arrays["mask"][:, -length:] == 1)[..., None]
        return real

    @property
    def _allowed(self) -> Array:
        """Where a token may look, bool [batch, 1, sequence, total]: at slots up to its own that are no padding."""
        mask, length = self.call.arrays["mask"], self.call.arrays["ids"].shape[1]
        slots = np.arange(mask.shape[1])
        allowed: Array = (slots[-length:, None] >= slots)[None, None] & (mask == 1)[:, None, None]
        return allowed

    def _masks(self) -> dict[str, Truth]:
        mask, length = self.call.arrays["mask"], self.call.arrays["ids"].shape[1]
        total, keep, real = mask.shape[1], self.call.facts["keep"], self._real[:, None]
        slots = np.arange(total)
        own = slots[-length:]
        allowed = self._allowed
        exact = {
            "total_length": np.array([total]),
            "sequence_length": np.array([length]),
            "total": np.array(total),
            "slots": slots,
            "sequence_begin": np.array([-length]),
            "own_slots": own,
            "rows": own[:, None],
            "causal": own[:, None] >= slots,
            "real": mask == 1,
            "columns": (mask == 1)[:, None, None],
            "first": np.array(-keep),
            "first_kept": np.array([-keep]),
            "in.positions": self.call.arrays["positions"],
            "in.ids": self.call.arrays["ids"],
        }
        found = {name: Truth(np.asarray(value)) for name, value in exact.items()}
        bias = np.where(allowed, 0, -1e4).astype(np.float32)
        # What a mask lets through comes first: without padding it has the value of causality alone.
        return {"allowed": Truth(allowed, real), "attention_bias": Truth(bias, real, mask=True), **found}

    def _layer(self, layer: int, found: dict[str, Truth]) -> dict[str, Truth]:
        name, arrays, real = f"transformer.h.{layer}", self.call.arrays, self._real
        query, key, value = np.split(arrays[f"out.{name}.attn.c_attn"], 3, axis=-1)
        present = self.call.arrays["mask"][:, None, :, None] == 1
        result = {
            f"{name}.attn.query": Truth(query, real),
            f"{name}.attn.key": Truth(key, real),
            f"{name}.attn.value": Truth(value, real),
            f"{name}.attn.heads": found[f"in.{name}.attn.c_proj"],
            f"{name}.middle": found[f"in.{name}.ln_2"],
            f"present.{layer}.key": Truth(arrays[f"present.{layer}.key"], present),
            f"present.{layer}.value": Truth(arrays[f"present.{layer}.value"], present),
        }
        for linear in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"):
            module = f"{name}.{linear}"
            product = arrays[f"out.{module}"] - self.parameters[f"{module}.bias"]
            result[f"{module}.product"] = Truth(product, real)
        return result

    def _attention(self, layer: int) -> Iterator[tuple[str, Truth]]:
        """Attention spelt out, heads apart: float32 [batch, heads, sequence, ...]."""
        name, arrays = f"transformer.h.{layer}.attn", self.call.arrays
        real, heads = self._real[:, None], int(self.call.facts["config"]["n_head"])
        parts = [_apart(part, heads) for part in np.split(arrays[f"out.{name}.c_attn"], 3, axis=-1)]
        for label, part in zip(("query", "key", "value"), parts, strict=True):
            yield f"{name}: {label} by head", Truth(part, real)
            yield f"{name}: {label} by position", Truth(part.swapaxes(1, 2), self._real[..., None])
        keys, values = arrays[f"present.{layer}.key"], arrays[f"present.{layer}.value"]
        scale = scale_of(self.call.facts["config"], layer, keys.shape[-1])
        yield f"{name}: keys turned", Truth(keys.swapaxes(2, 3), arrays["mask"][:, None, None] == 1)
        raw = parts[0] @ keys.swapaxes(2, 3)
        scores = np.where(self._allowed, raw * scale, -1e4)
        mass = np.exp(scores - scores.max(axis=-1, keepdims=True))
        probabilities = mass / mass.sum(axis=-1, keepdims=True)
        context = probabilities @ values
        # The masked ones first: where nothing is masked they have the value of the others.
        yield f"{name}: scores masked", Truth(scores, real, mask=True)
        yield f"{name}: query scaled", Truth(parts[0] * np.float32(scale), real)
        yield f"{name}: scores unscaled", Truth(raw, real)
        yield f"{name}: scores", Truth(raw * np.float32(scale), real)
        yield f"{name}: probabilities", Truth(probabilities, real)
        yield f"{name}: context", Truth(context, real)
        yield f"{name}: context by position", Truth(context.swapaxes(1, 2), self._real[..., None])


def scale_of(config: dict[str, Any], layer: int, width: int) -> float:
    """What the products of queries and keys are multiplied with."""
    scale = width**-0.5 if config["scale_attn_weights"] else 1.0
    return float(scale / (layer + 1) if config["scale_attn_by_inverse_layer_idx"] else scale)


def _apart(value: Array, heads: int) -> Array:
    batch, length, width = value.shape
    return value.reshape(batch, length, heads, width // heads).swapaxes(1, 2)


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
