"""State what a variant rounds besides its sums, as far as a recipe's steps tell."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.recipe.recipe import Recipe
from verify.bounds import rounding
from verify.candidate.unrounded import FLOAT

LEVEL = 4  # the accuracy_level where a step names none: activations rounded to int8 (quantize, `BlockwiseOptions`)


@dataclass(frozen=True)
class Formats:
    """State what a variant's graph rounds besides float32 sums. Scales have the type that products are computed in."""

    float16: bool = False
    body: bool = False  # the layers' products round their activations to int8
    head: bool = False  # lm_head's product does
    scales: bool = False  # weights are codes with scales

    @property
    def exact(self) -> bool:
        """Return whether no activation is rounded."""
        return not (self.float16 or self.body or self.head)

    @property
    def float16_scales(self) -> bool:
        """Return whether weights are codes with scales of float16."""
        return self.float16 and self.scales

    @property
    def last_bit(self) -> float:
        """The relative variance of weights when the last bit of every scale (without scales: number) is moved."""
        return rounding.of_moved_bit(rounding.FLOAT16 if self.float16_scales else rounding.FLOAT32)


def formats_of(recipe: Recipe) -> dict[str, Formats]:
    """Return the formats of every variant of a recipe."""
    return {"fp32": Formats(), **{name: formats(variant.steps) for name, variant in recipe.variants.items()}}


def formats(steps: Collection[Mapping[str, Any]]) -> Formats:
    """Return the formats of the variant that these steps make of fp32."""
    float16 = body = head = scales = False
    for step in steps:
        if step["scheme"] == "float16":
            float16 = True
            continue
        scales, level = True, step.get("accuracy_level", LEVEL)
        stored = step.get("expand", False)  # codes in the file, floats in memory
        candidates = step.get("candidates", [{}])
        body = (
            not stored and step["scheme"] != "nf4" and any(_rounds(c.get("accuracy_level", level)) for c in candidates)
        )
        head = not stored and _rounds(step.get("embedding_accuracy_level", level))
    return Formats(float16, body, head, scales)


def _rounds(level: int) -> bool:
    return level not in (0, FLOAT)
