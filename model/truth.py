"""True values inside one call of the reference: what they are, and those that every architecture has.

What PyTorch's modules read and make is recorded. What has no module is computed here, by definition: where a token may
look follows from the attention mask and causality; scores, probabilities and context from scale, mask and softmax.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from model.landmarks import Landmarks, Projection

Array = np.ndarray[Any, np.dtype[Any]]
BLOCKED = -1e3  # a score below this is masked, whichever constant an exporter chose (-1e4, the type's least, -inf)


@dataclass(frozen=True)
class Truth:
    """The true value of a tensor.

    `real` says where it counts (broadcastable, None: everywhere), which is not at padding. A `mask` is compared by what
    it lets through, and by value there.
    """

    value: Array
    real: Array | None = None
    mask: bool = False


@dataclass(frozen=True)
class Call:
    """One call: what was fed, the cache after it, and what each module read (`in.<module>`) and made (`out.<module>`).

    The logits of the last `keep` positions were asked for, 0: of all.
    """

    arrays: Mapping[str, Array]
    config: Mapping[str, Any]
    keep: int
    parameters: Mapping[str, Array]

    @property
    def real(self) -> Array:
        """Return which of the call's tokens are no padding, bool [batch, sequence, 1]."""
        length = self.arrays["ids"].shape[1]
        real: Array = (self.arrays["mask"][:, -length:] == 1)[..., None]
        return real

    def allowed(self, window: int | None = None) -> Array:
        """Return where a token may look, bool [batch, 1, sequence, total]: slots up to its own that are no padding.

        With a window of n, these are the last n up to its own.
        """
        mask, length = self.arrays["mask"], self.arrays["ids"].shape[1]
        slots = np.arange(mask.shape[1])
        before = slots[-length:, None] - slots
        near = before >= 0 if window is None else (before >= 0) & (before < window)
        allowed: Array = near[None, None] & (mask == 1)[:, None, None]
        return allowed

    def projected(self, part: Projection) -> Array:
        """Queries, keys or values as the module makes them, float32 [batch, sequence, width of all heads]."""
        made: Array = self.arrays[f"out.{part.module}"][..., np.asarray(part.outputs)]
        return made


def modules(call: Call) -> dict[str, Truth]:
    """Return what every module reads and makes."""
    real = call.real
    return {
        name: Truth(
            value, real.reshape(*real.shape[:2], *[1] * (value.ndim - 2)) if value.shape[1] == real.shape[1] else None
        )
        for name, value in call.arrays.items()
        if name.startswith(("in.", "out."))
    }


def masks(call: Call, windows: Iterable[int | None] = (None,)) -> dict[str, Truth]:
    """Return what `Builder.attention_biases` and `Builder.last` make, by the names that they give."""
    mask, length = call.arrays["mask"], call.arrays["ids"].shape[1]
    total, real, allowed = mask.shape[1], call.real[:, None], call.allowed()
    slots = np.arange(total)
    own = slots[-length:]
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
        "first": np.array(-call.keep),
        "first_kept": np.array([-call.keep]),
        "in.positions": call.arrays["positions"],
        "in.ids": call.arrays["ids"],
    }
    found = {name: Truth(np.asarray(value)) for name, value in exact.items()}
    # What a mask lets through comes first: without padding it has the value of causality alone.
    looking = {"allowed": Truth(allowed, real)}
    for window in dict.fromkeys(windows):
        ending, inside = "" if window is None else f".window_{window}", call.allowed(window)
        looking[f"attention_bias{ending}"] = Truth(np.where(inside, 0, -1e4).astype(np.float32), real, mask=True)
        if window is not None:
            near = own[:, None] - window
            found |= {f"rows{ending}": Truth(near), f"near{ending}": Truth(slots > near)}
            looking[f"allowed{ending}"] = Truth(inside, real)
    return {**looking, **found}


def ends(call: Call, at: Landmarks) -> dict[str, Truth]:
    """The table's columns that are looked up, what the head reads, and the logits."""
    arrays, real, keep = call.arrays, call.real, call.keep
    return {
        f"{at.embedding}.columns": Truth(np.moveaxis(arrays[f"out.{at.embedding}"], -1, 0), real[None, ..., 0]),
        "kept": Truth(arrays[f"out.{at.final_norm}"][:, -keep:], real[:, -keep:]),
        "logits": Truth(arrays[f"out.{at.head}"], real[:, -keep:]),
    }


def layers(call: Call, at: Landmarks) -> dict[str, Truth]:
    """Return what lies between the modules of each layer: queries, keys, values, heads, residual stream, cache."""
    real, present = call.real, call.arrays["mask"][:, None, :, None] == 1
    found: dict[str, Truth] = {}
    for number, layer in enumerate(at.layers):
        found |= {part.value: Truth(call.projected(part), real) for part in (layer.query, layer.key, layer.value)}
        found[layer.attended] = Truth(call.arrays[f"in.{layer.out}"], real)
        if layer.middle is not None:
            found[layer.middle] = Truth(call.arrays[f"in.{layer.feed_forward_norm}"], real)
        for part in ("key", "value"):
            name = f"present.{number}.{part}"
            found[name] = Truth(call.arrays[name], present)
    return found


def products(call: Call) -> dict[str, Truth]:
    """Of each linear module with a bias what it makes without it."""
    found = {}
    for name, bias in call.parameters.items():
        module = name.removesuffix(".bias")
        weight = call.parameters.get(f"{module}.weight")
        if module != name and weight is not None and weight.ndim == 2:
            found[f"{module}.product"] = Truth(call.arrays[f"out.{module}"] - bias, call.real)
    return found


def by_module(found: Mapping[str, Truth]) -> dict[str, Truth]:
    """The same, and what modules make by the modules' own names: so the values of the project's graphs are called."""
    made = {name.removeprefix("out."): truth for name, truth in found.items() if name.startswith("out.")}
    return {**made, **found}


def attention(  # noqa: PLR0913  # a layer's own window is one more
    call: Call, number: int, name: str, parts: tuple[Array, Array, Array], scale: float, *, window: int | None = None
) -> Iterator[tuple[str, Truth]]:
    """One layer's attention spelt out; `parts` are the call's queries, keys and values [batch, sequence, heads, width].

    All else is float32 [batch, heads, sequence, ...]. Where heads share keys and values, each head has them.
    """
    real = call.real[:, None]
    for label, part in zip(("query", "key", "value"), parts, strict=True):
        yield f"{name}: {label} by head", Truth(part.swapaxes(1, 2), real)
        yield f"{name}: {label} by position", Truth(part, call.real[..., None])
    query, keys, values = (
        parts[0].swapaxes(1, 2),
        *(call.arrays[f"present.{number}.{part}"] for part in ("key", "value")),
    )
    keys, values = (np.repeat(one, query.shape[1] // one.shape[1], axis=1) for one in (keys, values))
    yield f"{name}: keys turned", Truth(keys.swapaxes(2, 3), call.arrays["mask"][:, None, None] == 1)
    raw = query @ keys.swapaxes(2, 3)
    scores = np.where(call.allowed(window), raw * scale, -1e4)
    mass = np.exp(scores - scores.max(axis=-1, keepdims=True))
    probabilities = mass / mass.sum(axis=-1, keepdims=True)
    context = probabilities @ values
    # The masked ones first: where nothing is masked they have the value of the others.
    yield f"{name}: scores masked", Truth(scores, real, mask=True)
    yield f"{name}: query scaled", Truth(query * np.float32(scale), real)
    yield f"{name}: scores unscaled", Truth(raw, real)
    yield f"{name}: scores", Truth(raw * np.float32(scale), real)
    yield f"{name}: probabilities", Truth(probabilities, real)
    yield f"{name}: context", Truth(context, real)
    yield f"{name}: context by position", Truth(context.swapaxes(1, 2), call.real[..., None])


# Steps of `attention` by what `model.builder`'s attention calls them.
IN_GRAPH = {
    "query.scaled": "query scaled",
    "keys.turned": "keys turned",
    "scores": "scores",
    "scores.masked": "scores masked",
    "probabilities": "probabilities",
    "context": "context",
    "context.turned": "context by position",
}


def in_graph(name: str, steps: Mapping[str, Truth]) -> dict[str, Truth]:
    """Return the steps of `attention` as a graph names them in which each head has keys and values of its own."""
    return {f"{name}.{own}": steps[f"{name}: {step}"] for own, step in IN_GRAPH.items()}


def apart(value: Array, width: int) -> Array:
    """Heads apart: [batch, sequence, heads * width] as [batch, sequence, heads, width]."""
    batch, length, _ = value.shape
    return value.reshape(batch, length, -1, width)
