"""Fair turns, and what is said of repeated measurements."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Spread:
    """Repeated measurements of one figure: the median is the figure, low and high its range."""

    median: float
    low: float
    high: float
    samples: tuple[float, ...]


def spread(samples: Sequence[float]) -> Spread:
    """Median and range; ValueError without samples, because nothing measured has no median."""
    if not samples:
        raise ValueError("no samples")
    return Spread(statistics.median(samples), min(samples), max(samples), tuple(samples))


def turns(items: Sequence[T], shift: int) -> tuple[T, ...]:
    """The items in order, beginning `shift` places on: over the rounds each is first, last, and after every other.

    A neighbour's load, a warm cache or a throttled clock then falls on another engine each time.
    """
    start = shift % len(items) if items else 0
    return tuple(items[start:]) + tuple(items[:start])
