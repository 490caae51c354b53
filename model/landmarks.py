"""State what the parts of a model are called, by the role that they play: how all that judges speaks of them.

A module has the name that PyTorch gives it. In the graphs of this project the value that a module computes bears the
module's name, and its weights those of its parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """State what a leaf module's class (one without submodules) does."""

    LINEAR = "linear, its weight stored [in, out]"
    TURNED = "linear, its weight stored [out, in]"
    LOOKUP = "lookup of a table's entries"
    FUNCTION = "function of each row of numbers"
    OTHER = "none of these: nothing to ask it alone"


@dataclass(frozen=True)
class Projection:
    """The outputs of a linear module that are queries, keys or values, and the value that holds them."""

    module: str
    outputs: Sequence[int]
    value: str


@dataclass(frozen=True)
class Layer:
    """One layer. `block` and `middle` are sums of a branch and of the residual stream, in this order."""

    block: str  # the residual stream that the layer leaves
    middle: str | None  # the one between its two parts; None where they run side by side
    attention_norm: str
    feed_forward_norm: str
    query: Projection
    key: Projection
    value: Projection
    attended: str  # what the heads found, together, before `out`
    out: str
    up: str
    down: str
    activation: str
    gate: str | None = None
    scaled: str | None = None  # queries times the scale of attention; None where attention is one operator
    scores: str | None = None  # products of these and the keys, before the mask; None as above


@dataclass(frozen=True)
class Landmarks:
    """A model's parts by their role."""

    embedding: str
    head: str
    final_norm: str
    placed: str  # the first value that is made from the positions
    layers: tuple[Layer, ...]
    positions: str | None = None  # the table of positions, if there is one
    angles: str | None = None  # by which each pair of a head turns, where positions are rotary: its last axis
    epsilon: str | None = None  # the constant that norms add to a variance, where they are spelt out

    def number(self, wanted: int) -> int:
        """Return a layer's number, which wraps around: modulo the number of layers."""
        return wanted % len(self.layers)

    def layer(self, wanted: int) -> Layer:
        """Return the layer of this number."""
        return self.layers[self.number(wanted)]

    def norm_after(self, wanted: int) -> str:
        """Return the norm that reads what a layer leaves: the next layer's first, or the final one."""
        after = self.number(wanted) + 1
        return self.layers[after].attention_norm if after < len(self.layers) else self.final_norm
