"""KL divergence between two next-token distributions, in the manner of llama.cpp's --kl-divergence.

With d = candidate - reference, shifted so that its mean under p is near 0 (a shift changes no distribution),
KL(p || q) = log sum(p e^d) - sum(p d) = log1p(sum(p expm1(d))) - sum(p d): no difference of large numbers, so that the
divergence of two nearly equal distributions keeps its digits although the logits are float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
BLOCK = 8  # rows at a time: 8 x 50257 float32 stay in the processor's cache


@dataclass(frozen=True)
class Divergence:
    """Per scored token, float64 [tokens]: KL divergence in nats, log-probability of the true token, same top."""

    kld: Array
    log_probability: Array
    same_top: Array


def divergences(reference: Array, candidate: Array) -> Array:
    """KL(p || q) in nats for each row of logits float32 [tokens, vocabulary], float64 [tokens].

    Infinite for logits that are not finite.
    """
    found = np.concatenate([kld for _, kld, _, _ in _blocks(reference, softmax(reference), candidate)])
    return np.where(np.isfinite(found), found, np.inf)


def diverge(reference: Array, probability: Array, truth: Array, candidate: Array, target: Array) -> Divergence:
    """Compare logits float32 [tokens, vocabulary]; `probability` is softmax(reference), `target` int64 [tokens].

    `truth` is the reference's log-probability of the targets, float64 [tokens].
    """
    klds, logp, same = [], [], []
    for cut, kld, d, growth in _blocks(reference, probability, candidate):
        wanted = target[cut]
        klds.append(kld)
        logp.append(truth[cut] + d[np.arange(len(wanted)), wanted] - growth)
        same.append(reference[cut].argmax(axis=-1) == candidate[cut].argmax(axis=-1))
    return Divergence(np.concatenate(klds), np.concatenate(logp), np.concatenate(same).astype(np.float64))


def softmax(logits: Array) -> Array:
    """Return probabilities float32 [tokens, vocabulary], normalized in float64."""
    rows = np.empty(logits.shape, np.float32)
    for start in range(0, len(logits), BLOCK):
        block = logits[start : start + BLOCK]
        weights = np.exp(block - block.max(axis=-1, keepdims=True))
        total = weights.sum(axis=-1, keepdims=True, dtype=np.float64)
        np.divide(weights, total, out=rows[start : start + BLOCK], casting="same_kind")
    return rows


def log_probability(logits: Array, target: Array) -> Array:
    """Return the log-probability of the target tokens, float64 [tokens]."""
    found = np.empty(len(target), np.float64)
    for start in range(0, len(logits), BLOCK):
        block, wanted = logits[start : start + BLOCK], target[start : start + BLOCK]
        top = block.max(axis=-1, keepdims=True)
        total = np.exp(block - top).sum(axis=-1, dtype=np.float64)
        likely = block[np.arange(len(block)), wanted] - top[:, 0].astype(np.float64)
        found[start : start + BLOCK] = likely - np.log(total)
    return found


def _blocks(reference: Array, probability: Array, candidate: Array) -> Iterator[tuple[slice, Array, Array, Array]]:
    """Yield, block of rows by block: which rows, their divergence, d, and log sum(p e^d)."""
    for start in range(0, len(reference), BLOCK):
        cut = slice(start, start + BLOCK)
        p = probability[cut]
        with np.errstate(over="ignore", invalid="ignore"):  # a hopeless candidate diverges infinitely: it never passes
            d = candidate[cut] - reference[cut]
            d -= np.einsum("ij,ij->i", p, d)[:, None]  # about the mean: it need not be exact
            growth = np.log1p(_mean(p, np.expm1(d)))
        yield cut, growth - _mean(p, d), d, growth


def _mean(p: Array, values: Array) -> Array:
    found: Array = np.einsum("ij,ij->i", p, values, dtype=np.float64, casting="same_kind")
    return found
