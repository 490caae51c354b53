"""Say how near a quantized graph's next-token distributions are to the fp32 graph's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from model import divergence
from model.divergence import Array
from quantize.numerics.cores import by_groups


@dataclass(frozen=True)
class Fidelity:
    """Over the scored tokens: mean and 99.9 % quantile of the divergence, in nats; share with the same top token."""

    mean_kld: float
    p999_kld: float
    same_top: float
    tokens: int


def fidelity(klds: Array, same: Array) -> Fidelity:
    """Summarize the tokens' divergences [tokens] and agreement of the top token [tokens]."""
    return Fidelity(float(klds.mean()), float(np.quantile(klds, 0.999)), float(same.mean()), len(klds))


def divergences(reference: Array, candidate: Array) -> Array:
    """The divergence of each row of logits [tokens, vocabulary], on every core."""

    def rows(start: int, stop: int) -> Array:
        return divergence.divergences(reference[start:stop], candidate[start:stop])

    return np.concatenate(by_groups(rows, len(reference), divergence.BLOCK))
