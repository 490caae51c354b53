"""Choose tokens by nucleus sampling with given random numbers, and by beam search: the same code for both sides.

Greedy generation needs no code here: the reference's is transformers' own, and a candidate reproduces it exactly if and
only if its most likely token is the reference's at every step of the reference's text.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from scipy.special import logit

from verify.candidate.session import Candidate, positions_of
from verify.check import Array

if TYPE_CHECKING:  # torch takes seconds to load
    from verify.reference.model import Reference

ALMOST = 1 - 2.0**-53  # the largest float64 below 1


@dataclass(frozen=True)
class Sampling:
    """Temperature, then the `top_k` most likely tokens, then of these the smallest set with mass `top_p`."""

    temperature: float = 0.8
    top_p: float = 0.9
    top_k: int = 50  # transformers' default, in force whenever a caller does not set it


@dataclass(frozen=True)
class Drawable:
    """State which tokens may be drawn (bool [vocabulary]), and how far each is from the edge, in units of logits."""

    mask: Array
    edge: Array


class Decoder(Protocol):
    """A model with its cache: `start` reads a left-padded prompt, `advance` one token for each of the given rows."""

    def start(self, ids: Array, mask: Array, /) -> Array:
        """Logits float32 [rows, vocabulary] of the token after the prompt."""

    def advance(self, tokens: Array, rows: Array, /) -> Array:
        """Continue rows `rows` (int64, repeats allowed) of the previous call with `tokens`; logits of what follows."""


class CandidateDecoder:
    """Decoder over an onnxruntime session."""

    def __init__(self, candidate: Candidate) -> None:
        self._candidate = candidate
        self._mask: Array = np.zeros((0, 0), np.int64)
        self._cache: dict[str, Array] = {}

    def start(self, ids: Array, mask: Array) -> Array:
        """See Decoder."""
        return self._step(ids, np.asarray(mask), positions_of(mask), None)

    def advance(self, tokens: Array, rows: Array) -> Array:
        """See Decoder."""
        mask = np.concatenate([self._mask[rows], np.ones((len(rows), 1), np.int64)], axis=1)
        cache = self._cache
        if not np.array_equal(rows, np.arange(len(self._mask))):
            cache = {name: value[rows] for name, value in cache.items()}
        return self._step(tokens[:, None], mask, positions_of(mask)[:, -1:], cache)

    def _step(self, ids: Array, mask: Array, positions: Array, cache: dict[str, Array] | None) -> Array:
        step = self._candidate.forward(ids, mask, positions, cache)
        self._mask, self._cache = mask, step.cache
        return step.logits[:, -1]


class ReferenceDecoder:
    """Decoder over the PyTorch reference, with transformers' own cache."""

    def __init__(self, reference: Reference) -> None:
        self._reference = reference
        self._mask: Array = np.zeros((0, 0), np.int64)
        self._cache: Any = None

    def start(self, ids: Array, mask: Array) -> Array:
        """See Decoder."""
        self._cache = None
        return self._step(ids, mask, positions_of(mask))

    def advance(self, tokens: Array, rows: Array) -> Array:
        """See Decoder."""
        import torch

        mask = np.concatenate([self._mask[rows], np.ones((len(rows), 1), np.int64)], axis=1)
        self._cache.reorder_cache(torch.from_numpy(rows))
        return self._step(tokens[:, None], mask, positions_of(mask)[:, -1:])

    def _step(self, ids: Array, mask: Array, positions: Array) -> Array:
        answer = self._reference.forward(ids, mask, positions, self._cache)
        self._mask, self._cache = mask, answer.cache
        logits: Array = answer.logits[:, -1]
        return logits


def keep(logits: Array, sampling: Sampling) -> Drawable:
    """The tokens that sampling leaves, as transformers' TopK and TopP warpers do: float32 [vocabulary] -> Kept.

    A token stays if fewer than top_k are more likely, and the more likely of these hold less than top_p of the mass.
    """
    size = min(sampling.top_k, len(logits))
    order = likeliest(logits, size)
    top = logits[order].astype(np.float64) / sampling.temperature
    mass = np.exp(top - top.max())
    mass /= mass.sum()
    before = np.cumsum(mass) - mass
    mask = np.zeros(len(logits), dtype=bool)
    mask[order[before < sampling.top_p]] = True
    # Outside the top k: the gap to the last one inside. Inside: the gap to the first one outside, or the way to the
    # nucleus' edge, whichever is nearer.
    edge = np.abs(logits.astype(np.float64) - logits[order[-1]])
    inside = _way_to_edge(logits[order].astype(np.float64), mass, before, sampling)
    if size < len(logits):
        inside = np.minimum(inside, logits[order] - np.partition(logits, -size - 1)[-size - 1])
    edge[order] = inside
    return Drawable(mask, edge)


def _way_to_edge(logits: Array, mass: Array, before: Array, sampling: Sampling) -> Array:
    """Return how large an error takes each token over the nucleus' edge; all float64 [tokens], the likeliest first.

    A token leaves by falling behind some token j (or none: j is itself) before which, without it, lies enough mass; it
    comes in by rising before some token j before which little enough lies. Either takes closing the gap to j and moving
    that mass. An error of e in every logit moves the log-odds of a mass by at most 2 e / temperature, so that takes
    half the temperature times the distance in log-odds.
    """
    places, edge = np.arange(len(logits)), logit(sampling.top_p)
    without = (before + mass)[None] - mass[:, None]  # [token, j]
    without[places, places] = before
    # The first token has nothing before it: infinitely far inside. A sum of rounded masses may be 1 or a little more.
    leaving = sampling.temperature / 2 * np.maximum(edge - logit(np.clip(without, 0, ALMOST)), 0)
    coming = sampling.temperature / 2 * np.maximum(logit(np.clip(before, 0, ALMOST)) - edge, 0)[None]
    gaps = np.abs(logits[:, None] - logits[None])
    behind = places[None] >= places[:, None]
    out = np.where(behind, np.maximum(gaps, leaving), np.inf).min(axis=1)
    back = np.where(behind.T, np.maximum(gaps, coming), np.inf).min(axis=1)
    result: Array = np.where(before < sampling.top_p, out, back)
    return result


def draw(logits: Array, noise: Array, sampling: Sampling) -> int:
    """Sample one token: argmax of logits / temperature + Gumbel noise over the kept ones (the Gumbel-max trick)."""
    scores = np.where(keep(logits, sampling).mask, logits / sampling.temperature + noise, -np.inf)
    return int(scores.argmax())


def draw_margin(reference: Array, candidate: Array, noise: Array, sampling: Sampling) -> float:
    """Return how large an error in logits explains that the candidate drew another token than the reference did.

    If both tokens may be drawn on both sides, their scores must be that close. A token that only the candidate may draw
    must be that close to the edge, and its score to the reference's. A token that the candidate may not draw must be
    that close to the edge.
    """
    kept, other = keep(reference, sampling), keep(candidate, sampling)
    wanted, got = draw(reference, noise, sampling), draw(candidate, noise, sampling)
    reasons = []
    if not kept.mask[got]:
        reasons.append(float(kept.edge[got]))
    if other.mask[wanted]:
        gap = (reference[wanted] - reference[got]) + sampling.temperature * (noise[wanted] - noise[got])
        reasons.append(float(gap))
    else:
        reasons.append(float(kept.edge[wanted]))
    return max(reasons)


@dataclass(frozen=True)
class Beam:
    """A beam search's result: the new tokens, their mean log-probability, and how safely they stayed in the beam.

    `lead` is the least, over the steps, of the result's lead over the best text that was dropped there, in units of
    logits: an error of e in every logit moves a sum of t log-probabilities by up to 2 e t.
    """

    tokens: list[int]
    score: float
    lead: float


def beam_search(decoder: Decoder, ids: Array, *, beams: int, new_tokens: int, ends: Collection[int]) -> Beam:
    """Beam search over one prompt, int64 [length].

    The same rules as transformers' generate(num_beams=beams, length_penalty=1, early_stopping=False).
    """
    logits = decoder.start(ids[None], np.ones((1, len(ids)), np.int64))
    alive = [Beam([], 0.0, sys.float_info.max)]  # here the score is the sum
    finished: list[Beam] = []
    for step in range(1, new_tokens + 1):
        totals = np.asarray([text.score for text in alive])[:, None] + log_softmax(logits)
        rows, tokens = np.unravel_index(likeliest(totals.ravel(), max(2, 1 + len(ends)) * beams), totals.shape)
        grown = [
            (Beam([*alive[row].tokens, int(token)], float(totals[row, token]), alive[row].lead), int(row))
            for row, token in zip(rows, tokens, strict=True)
        ]
        last = step == new_tokens
        ended = [
            Beam(text.tokens, text.score / step, text.lead)
            for text, _ in grown[:beams]
            if last or text.tokens[-1] in ends
        ]
        finished = sorted([*finished, *ended], key=lambda text: -text.score)[:beams]
        going = [entry for entry in grown if entry[0].tokens[-1] not in ends]
        going, dropped = going[:beams], going[beams:]
        if last or not going or (len(finished) == beams and going[0][0].score / step <= finished[-1].score):
            break
        edge = dropped[0][0].score if dropped else -np.inf
        alive = [Beam(text.tokens, text.score, min(text.lead, (text.score - edge) / (2 * step))) for text, _ in going]
        logits = decoder.advance(
            np.asarray([text.tokens[-1] for text in alive], np.int64), np.asarray([row for _, row in going], np.int64)
        )
    best = alive[0]
    return finished[0] if finished else Beam(best.tokens, best.score / max(len(best.tokens), 1), best.lead)


def active(tokens: Array, ends: Collection[int]) -> Array:
    """Return the steps that count, bool [rows, steps]: up to and including the first end token of each row."""
    ending = np.isin(tokens, list(ends))
    result: Array = (np.cumsum(ending, axis=1) - ending) == 0
    return result


def likeliest(values: Array, count: int) -> Array:
    """Indices of the `count` largest of float [n], the largest first, of equal ones the first; NaN counts as least.

    The order of a stable sort, without sorting the whole vocabulary at every token.
    """
    falling, count = -values, min(count, len(values))
    edge = np.partition(falling, count - 1)[count - 1]
    near = np.flatnonzero(falling <= edge) if np.isfinite(edge) else np.arange(len(falling))
    order: Array = near[np.argsort(falling[near], kind="stable")[:count]]
    return order


def log_softmax(logits: Array) -> Array:
    """Log-probabilities, float64 [..., vocabulary]."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    result: Array = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


def sequence_score(decoder: Decoder, ids: Array, tokens: list[int]) -> float:
    """Mean log-probability that a model gives to `tokens` after the prompt `ids`."""
    logits = decoder.start(ids[None], np.ones((1, len(ids)), np.int64))
    total = float(log_softmax(logits)[0, tokens[0]])
    for previous, token in itertools.pairwise(tokens):
        logits = decoder.advance(np.asarray([previous]), np.asarray([0]))
        total += float(log_softmax(logits)[0, token])
    return total / len(tokens)


def follow(decoder: Decoder, ids: Array, mask: Array, tokens: Array, visit: Callable[[int, Array], None]) -> None:
    """Feed tokens int64 [rows, steps] one by one after a prompt; `visit(step, logits)` sees what precedes each."""
    logits = decoder.start(ids, mask)
    rows = np.arange(len(ids))
    for step in range(tokens.shape[1]):
        visit(step, logits)
        if step + 1 < tokens.shape[1]:
            logits = decoder.advance(np.asarray(tokens[:, step]), rows)
