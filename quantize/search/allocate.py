"""Choose one candidate for every tensor, under a budget, when what they cost adds up: a knapsack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Limit = Literal["bytes", "kld"]
BINS = 1 << 18  # sizes are rounded up to 1/BINS of their range: for 50 tensors of 60 MB, 12 KB are lost at most


@dataclass(frozen=True)
class Item:
    """State what one candidate costs for one tensor."""

    bytes: int
    kld: float


def allocate(slots: Sequence[Sequence[Item]], limit: Limit, budget: float) -> tuple[int, ...] | None:
    """The candidate of each slot: least KLD within `budget` bytes, or fewest bytes within `budget` KLD; or None.

    By dynamic programming over bytes beyond the smallest plan: best[j] is the least KLD for j units of them. Exact but
    for the rounding of sizes, and the same on every machine, which a solver with a time limit is not.
    """
    least = [min(item.bytes for item in row) for row in slots]
    ranges = [max(item.bytes for item in row) - low for row, low in zip(slots, least, strict=True)]
    unit = max(1, -(-sum(ranges) // BINS))
    extra = [[-(-(item.bytes - low) // unit) for item in row] for row, low in zip(slots, least, strict=True)]
    span = sum(map(max, extra))
    best = np.full(span + 1, np.inf)
    best[0] = 0.0
    chosen = np.zeros((len(slots), span + 1), np.uint8)
    for number, (row, steps) in enumerate(zip(slots, extra, strict=True)):
        after = np.full(span + 1, np.inf)
        for i, (item, step) in enumerate(zip(row, steps, strict=True)):
            candidate = best[: span + 1 - step] + item.kld
            better = candidate < after[step:]
            after[step:][better] = candidate[better]
            chosen[number, step:][better] = i
        best = after
    at = _place(best, limit, budget, sum(least), unit)
    if at is None:
        return None
    picks = []
    for number in reversed(range(len(slots))):
        pick = int(chosen[number, at])
        picks.append(pick)
        at -= extra[number][pick]
    return tuple(reversed(picks))


def _place(best: np.typing.NDArray[np.float64], limit: Limit, budget: float, least: int, unit: int) -> int | None:
    """Return where in `best` the plan ends; None if none keeps the budget."""
    if limit == "bytes":
        room = int((budget - least) // unit)
        return int(np.argmin(best[: room + 1])) if room >= 0 else None
    fits = np.flatnonzero(best <= budget)
    return int(fits[0]) if len(fits) else None
