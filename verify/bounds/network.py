"""A decoder's sizes, and what rounding errors of its sums grow to by the time they reach the logits and the cache."""

from __future__ import annotations

import math
from dataclasses import MISSING, asdict, dataclass, fields

from pipeline.recipe.recipe import Recipe
from verify.bounds import rounding

CONTEXTS = 100  # whose numbers a verdict compares, roughly: a bound grows with sqrt(log(count)), so it hardly matters
ROUNDINGS = 8  # one after the other in a norm (difference, square, root, gain, bias), an activation, or a head's row


@dataclass(frozen=True)
class Network:
    """Sizes, and the largest absolute values of logits and of keys and values."""

    layers: int
    hidden: int
    heads: int
    context: int
    vocabulary: int
    logits_range: float
    cache_range: float
    kv_heads: int | None = None  # as many as heads, where it is not stated
    head_dim: int | None = None  # hidden over heads, where it is not stated

    @property
    def head_width(self) -> int:
        """The width of one head."""
        return self.head_dim or self.hidden // self.heads

    @property
    def about(self) -> str:
        """The sizes that sums depend on, in words."""
        return f"through {self.layers} layers of width {self.hidden} over {self.context} positions"

    def disturbed(self, of_weights: float = 0.0) -> float:
        """Return the relative variance of logits and cache that rounding in float32 sums makes.

        `of_weights` is a further relative variance, of each weight matrix that was changed.

        Attention sums over the width for queries, keys and values, over a head's width for scores, over the context,
        and over the width again; an MLP over the width, and over four times that (taken for the widest; where it has a
        gate it is narrower); the head over the width.
        """
        product = rounding.of_sum(self.hidden) + of_weights
        attention = 2 * product + rounding.of_sum(self.head_width) + rounding.of_sum(self.context)
        mlp = product + rounding.of_sum(4 * self.hidden) + of_weights
        return rounding.through_layers(2 * self.layers, (attention + mlp) / 2) + product

    def apart(self, moved: float = 0.0) -> float:
        """Return the relative standard deviation of the difference of two runs, each with sums of its own.

        `moved` is the variance by which the weights of one of the two were moved.
        """
        return math.sqrt(self.disturbed() + self.disturbed(moved))

    def typical_logits(self, moved: float = 0.0) -> float:
        """Return the standard deviation of a logit's difference: in proportion to the size of logits."""
        return self.apart(moved) * rounding.typical(self.logits_range, self.vocabulary)

    def largest_logits(self, moved: float = 0.0) -> float:
        """Return the bound on the largest difference of logits."""
        return self.typical_logits(moved) * rounding.largest(CONTEXTS * self.context * self.vocabulary)

    def largest_cached(self, moved: float = 0.0) -> float:
        """Return the bound on the largest difference of keys and values."""
        width = self.head_width * (self.kv_heads or self.heads)
        count = CONTEXTS * self.context * width * 2 * self.layers
        return self.apart(moved) * rounding.typical(self.cache_range, width) * rounding.largest(count)

    def largest_mean(self, count: int) -> float:
        """Return the bound on the mean of so many differences of log-probabilities: each is one of two logits'."""
        return math.sqrt(2 / count) * self.typical_logits() * rounding.largest(1)

    def largest_divergence(self, count: int) -> float:
        """Return the bound on the largest of so many tokens' divergences: each is half the variance of logits' errors.

        That is d' (diag(p) - p p') d / 2. The matrix has no eigenvalue above 1/2, and two equally likely tokens reach
        it.
        """
        return (self.typical_logits() * rounding.largest(count)) ** 2 / 4

    def of_module(self) -> float:
        """Return the bound on one module's relative error: ROUNDINGS, and half that of a norm's sum of squares."""
        norm = math.sqrt(rounding.of_squares(self.hidden)) / 2
        return ROUNDINGS * rounding.FLOAT32 + norm * rounding.largest(CONTEXTS * self.hidden)


def network_of(recipe: Recipe) -> Network | None:
    """Return what a recipe says of its network; None where it leaves out a size or a range."""
    expect, basis = recipe.source.expect, recipe.basis
    stated = {**asdict(expect), **asdict(basis)}
    stated["context"] = recipe.verify.context or expect.context  # sums over positions are as long as the texts
    known = {size.name: stated[size.name] for size in fields(Network)}
    needed = [size.name for size in fields(Network) if size.default is MISSING]
    return None if any(known[name] is None for name in needed) else Network(**known)
