"""Near ties: choices between which the reference was undecided, within an error of the logits (docs/decisions/0006)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from verify.check import Array, Measure


@dataclass(frozen=True)
class Difference:
    """State where another choice was first made, and by how much the reference preferred its own."""

    where: str
    margin: float  # logits


def margin(logits: Array, choice: int) -> float:
    """Return by how much the reference, float32 [vocabulary], prefers its most likely token to another choice."""
    return float(logits.max() - logits[choice])


def tied(margin: float, error: float) -> bool:
    """Return whether an error of the logits explains a choice with this margin. A NaN never is a near tie."""
    return margin <= error


def measures(
    kind: str, differing: Sequence[Difference], count: int, unit: str, limit: tuple[str, float]
) -> list[Measure]:
    """Return, of one way to generate, mismatches (none is allowed) and the share of near ties among `count` choices.

    `limit` is the error of the logits up to which a choice is a near tie, and what that error is called.
    """
    name, error = limit
    hard = [entry for entry in differing if not tied(entry.margin, error)]
    near = len(differing) - len(hard)
    first = "; ".join(f"{entry.where} margin {entry.margin:.2g}" for entry in hard[:3])
    widest = max((entry.margin for entry in differing), default=0.0)
    ties = f"{near} of {count} {unit}; largest margin {widest:.2g}, {name} {error:.2g}"
    return [
        Measure(f"{kind}_mismatch", len(hard), count, fixed=0, detail=first),
        Measure(f"{kind}_near_ties", near / max(count, 1), count, detail=ties),
    ]
