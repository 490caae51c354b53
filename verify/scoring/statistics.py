"""Statistics of divergence between two next-token distributions, in the manner of llama.cpp's --kl-divergence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from verify.check import Array

BLOCK = 32  # rows at a time: 32 x 50257 float32 stay in the processor's cache


@dataclass(frozen=True)
class Divergence:
    """Per scored token, float64 [tokens]: KL divergence in nats, log-probability of the true token, same top."""

    kld: Array
    log_probability: Array
    same_top: Array


def softmax(logits: Array) -> Array:
    """Probabilities float32 [tokens, vocabulary], normalized in float64."""
    rows = []
    for start in range(0, len(logits), BLOCK):
        block = logits[start : start + BLOCK]
        weights = np.exp(block - block.max(axis=-1, keepdims=True))
        rows.append((weights / weights.sum(axis=-1, keepdims=True, dtype=np.float64)).astype(np.float32))
    return np.concatenate(rows)


def diverge(reference: Array, probability: Array, truth: Array, candidate: Array, target: Array) -> Divergence:
    """Compare logits float32 [tokens, vocabulary]; `probability` is softmax(reference), `target` int64 [tokens].

    `truth` is the reference's log-probability of the targets, float64 [tokens].

    With d = candidate - reference, shifted so that its mean under p is 0 (a shift changes no distribution),
    KL(p || q) = log sum(p e^d) - sum(p d) = log1p(sum(p expm1(d))): no difference of large numbers, so that the
    divergence of two nearly equal distributions keeps its digits although the logits are float32.
    """
    kld, logp, same = [], [], []
    for start in range(0, len(reference), BLOCK):
        cut = slice(start, start + BLOCK)
        a, p, b, t = reference[cut], probability[cut], candidate[cut], target[cut]
        d = b - a
        d -= np.einsum("ij,ij->i", p, d, dtype=np.float64, casting="same_kind").astype(np.float32)[:, None]
        rest = np.einsum("ij,ij->i", p, d, dtype=np.float64, casting="same_kind")
        with np.errstate(over="ignore"):  # a hopeless candidate diverges infinitely, and infinity never passes
            odds = np.expm1(d)
        growth = np.log1p(np.einsum("ij,ij->i", p, odds, dtype=np.float64, casting="same_kind"))
        rows = np.arange(len(t))
        kld.append(growth - rest)
        logp.append(truth[cut] + d[rows, t] - growth)
        same.append(a.argmax(axis=-1) == b.argmax(axis=-1))
    return Divergence(np.concatenate(kld), np.concatenate(logp), np.concatenate(same).astype(np.float64))


def log_probability(logits: Array, target: Array) -> Array:
    """Log-probability of the target tokens, float64 [tokens]."""
    top = logits.max(axis=-1).astype(np.float64)
    total = np.exp(logits - top[:, None].astype(np.float32)).sum(axis=-1, dtype=np.float64)
    result: Array = logits[np.arange(len(target)), target] - top - np.log(total)
    return result


def standard_error(values: Array) -> float:
    """Standard error of the mean of independent values; 0 for fewer than two."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
