"""A variant against the reference on the same items: differences of log-likelihoods, choices that moved, McNemar."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from benchmarks.accuracy.scores import ItemScore


@dataclass(frozen=True)
class Accuracy:
    """Mean score and its standard error, per cent, over so many items."""

    items: int
    per_cent: float
    error: float


@dataclass(frozen=True)
class Agreement:
    """Hold the differences of a variant from the reference. `p_value`: McNemar's exact test, two-sided."""

    requests: int
    mean_difference: float  # nats, of |log-likelihood - reference's| over every choice of every item
    max_difference: float
    flips: int  # items whose likeliest choice is another
    lost: int  # right with the reference, wrong with the variant
    won: int
    p_value: float


def accuracy(items: Sequence[ItemScore]) -> Accuracy:
    """Mean score of items; at least one."""
    scores = np.array([item.score for item in items])
    error = float(scores.std(ddof=1) / math.sqrt(len(scores))) if len(scores) > 1 else math.nan
    return Accuracy(len(scores), 100 * float(scores.mean()), 100 * error)


def agreement(reference: Sequence[ItemScore], variant: Sequence[ItemScore]) -> Agreement:
    """ItemScore by item; both in the same order. ValueError when they are not the same items."""
    pairs = list(zip(reference, variant, strict=True))
    apart = np.concatenate([np.subtract(theirs.logliks, ours.logliks) for ours, theirs in pairs])
    lost = sum(ours.right and not theirs.right for ours, theirs in pairs)
    won = sum(theirs.right and not ours.right for ours, theirs in pairs)
    return Agreement(
        requests=len(apart),
        mean_difference=float(np.abs(apart).mean()),
        max_difference=float(np.abs(apart).max()),
        flips=sum(ours.chosen != theirs.chosen for ours, theirs in pairs),
        lost=lost,
        won=won,
        p_value=float(binomtest(lost, lost + won, 0.5).pvalue) if lost + won else 1.0,
    )
