"""KL divergence between the fp32 graph's next-token distributions and a quantized graph's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from quantize.numerics.blocks import Floats
from quantize.numerics.cores import by_groups

Doubles = npt.NDArray[np.float64]
BLOCK = 32  # rows at a time: 32 x 50257 float32 stay in the processor's cache


@dataclass(frozen=True)
class Fidelity:
    """Over the scored tokens: mean and 99.9 % quantile of the divergence, in nats; share with the same top token."""

    mean_kld: float
    p999_kld: float
    same_top: float
    tokens: int


def divergences(reference: Floats, candidate: Floats) -> Doubles:
    """KL(p || q) in nats for each row of logits float32 [tokens, vocabulary]; infinite for logits that are not finite.

    With d = candidate - reference, shifted so that its mean under p is 0 (a shift changes no distribution),
    KL(p || q) = log1p(sum(p expm1(d))) - sum(p d): no difference of large numbers, so that the divergence of two nearly
    equal distributions keeps its digits although the logits are float32.
    """

    def some(start: int, stop: int) -> Doubles:
        a, b = reference[start:stop], candidate[start:stop]
        p = np.exp(a - a.max(axis=-1, keepdims=True))
        p /= p.sum(axis=-1, keepdims=True, dtype=np.float64).astype(np.float32)
        with np.errstate(over="ignore", invalid="ignore"):  # a hopeless candidate diverges infinitely
            d = b - a
            d -= _mean(p, d).astype(np.float32)[:, None]
            return np.log1p(_mean(p, np.expm1(d))) - _mean(p, d)

    result: Doubles = np.concatenate(by_groups(some, len(reference), BLOCK))
    return np.where(np.isfinite(result), result, np.inf)


def fidelity(klds: Doubles, same: npt.NDArray[Any]) -> Fidelity:
    """The summary of the tokens' divergences [tokens] and agreement of the top token [tokens]."""
    return Fidelity(float(klds.mean()), float(np.quantile(klds, 0.999)), float(same.mean()), len(klds))


def _mean(p: Floats, values: Floats) -> Doubles:
    found: Doubles = np.einsum("ij,ij->i", p, values, dtype=np.float64, casting="same_kind")
    return found
