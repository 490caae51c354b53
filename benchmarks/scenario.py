"""State what is timed: passes over a prompt, and decoding after one. Data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Scenario:
    """One timed task: `repeats` passes over `length` tokens, or `steps` tokens decoded after `length` of them.

    `every` asks a prefill for the logits of every position; otherwise only the next token's are wanted, and an engine
    that can leave the others out does.
    """

    name: str
    kind: Literal["prefill", "decode"]
    length: int
    batch: int = 1
    steps: int = 0
    repeats: int = 1
    every: bool = False

    @property
    def tokens(self) -> int:
        """Tokens that one measurement reads (prefill) or makes (decode), over the whole batch."""
        return self.batch * (self.length * self.repeats if self.kind == "prefill" else self.steps)

    @property
    def call_tokens(self) -> int:
        """Tokens of one call of the engine, over the whole batch: a pass over the prompt, or a step."""
        return self.batch * (self.length if self.kind == "prefill" else 1)

    @property
    def positions(self) -> int:
        """Positions of one row when it is over: the context that the model must have."""
        return self.length + self.steps

    @property
    def mean_past(self) -> float:
        """Tokens per row in the cache that a decoded token reads, averaged over the steps."""
        return self.length + (self.steps - 1) / 2


SCENARIOS = (
    Scenario("prefill-128", "prefill", 128, repeats=3),
    Scenario("prefill-768", "prefill", 768),
    Scenario("prefill-768-all", "prefill", 768, every=True),
    Scenario("decode-64", "decode", 64, steps=64),
    Scenario("decode-960", "decode", 960, steps=64),
    Scenario("prefill-128-batch8", "prefill", 128, batch=8),
    Scenario("decode-64-batch8", "decode", 64, batch=8, steps=16),
    Scenario("decode-960-batch8", "decode", 960, batch=8, steps=8),
)


QUICK = ("prefill-128", "decode-64")


def fitting(scenarios: Iterable[Scenario], context: int) -> tuple[Scenario, ...]:
    """The scenarios that a model of this context (positions) can run; single rows first, for the peak memory."""
    return tuple(sorted((s for s in scenarios if s.positions <= context), key=lambda s: s.batch > 1))
