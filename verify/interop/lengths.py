"""Prompts of every length that kernels tell apart: one pass, then a few steps; alone, and padded on the left.

Kernels change where a tile or a group of lanes is full, at powers of two: one was wrong for every pass of more than 32
tokens. All prompts are beginnings of one text, so the reference answers all of them by one pass over the context.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import RecipeError
from pipeline.recipe.runtimes import Extent, Runtimes
from verify.check import Array, Measure
from verify.interop.likeliest import Top, best_of, errors, top_of
from verify.reference.corpus import Corpus, left_padded
from verify.settings import require_lengths

if TYPE_CHECKING:  # torch takes seconds to load
    from verify.reference.model import Reference

LENGTHS = (33, 65, 129, 257)  # the first ones beyond a power of two; as many as the context holds, and near the context
GIVEN = 3  # tokens that follow each prompt, one at a time
PLACE = 700  # of the corpus' pieces, away from those of the other questions
# Logits float32 [rows, tokens, vocabulary] and the cache after them, from ids, mask, positions and the cache before.
Forward = Callable[[Array, Array, Array, Any], tuple[Array, Any]]


@dataclass
class _Worst:
    """The largest error of some positions, where it was, and how many logits were compared."""

    error: float = 0.0
    where: str = "nowhere"
    compared: int = 0

    def add(self, found: Array, top: Top, where: str) -> None:
        """Count some positions in."""
        self.compared += sum(map(len, top))
        if found.max() >= self.error:
            self.error, self.where = float(found.max()), where


@dataclass(frozen=True)
class Lengths:
    """A text as long as the context, the reference's logits after each token, and prompts: tokens of each row."""

    text: Array  # int64 [context]
    logits: Array  # float32 [context, vocabulary]
    best: Array  # int64 [context, some]: see `best_of`
    prompts: tuple[tuple[int, ...], ...]

    def asked(self) -> list[dict[str, Any]]:
        """Return the questions as plain values: in each row a prompt and the tokens that are given after it."""
        return [{"rows": [self.text[: n + GIVEN].tolist() for n in rows], "given": GIVEN} for rows in self.prompts]

    def of(self, extent: Extent) -> list[tuple[int, ...]]:
        """Return the prompts that are read where not all of them are."""
        return [rows for rows in self.prompts if _belongs(rows, extent)]

    def measures(self, answer: Sequence[Sequence[Top]], extent: Extent) -> dict[str, list[Measure]]:
        """Compare what was stated about the prompts of an extent: each pass, and the steps after it."""
        passes, steps, prompts = _Worst(), _Worst(), self.of(extent)
        for rows, own in zip(prompts, answer, strict=True):
            for number, (length, top) in enumerate(zip(rows, own, strict=True)):
                found = errors(top, self.logits[: length + GIVEN], self.best[: length + GIVEN])
                where = f"largest in {name_of(rows)}, row {number}"
                passes.add(found[:length], top[:length], where)
                steps.add(found[length:], top[length:], where)
        if not prompts:
            return {}
        about = f"prompts of {', '.join(map(name_of, prompts))} tokens"
        kinds = {"logits": (passes, "every position"), "cache": (steps, f"{GIVEN} tokens after each")}
        return {
            check: [Measure("max_abs", w.error, w.compared, unit="logit", detail=f"{about}, {part}; {w.where}")]
            for check, (w, part) in kinds.items()
        }


def ask(reference: Reference, corpus: Corpus, runtimes: Runtimes, where: str) -> Lengths:
    """Draw the text and let the reference answer. A prompt that is read padded has a second row, half as long.

    Raises RecipeError, before any work, for a prompt that leaves no room for the given tokens.
    """
    most = reference.context - GIVEN
    chosen = {*(n for n in LENGTHS if n < most), most} if runtimes.lengths is None else {*runtimes.lengths}
    padded = chosen if runtimes.padded is None else {*runtimes.padded}
    require_lengths(chosen, f"{where}: lengths", most)
    known = {"padded": padded <= chosen, "fewer": all(not 0 < entry.longest < min(chosen) for entry in runtimes.fewer)}
    for name, right in known.items():
        if not right:
            hint = f"write some of {', '.join(map(str, sorted(chosen)))}"
            raise RecipeError("no prompt has so many tokens", where=f"{where}: {name}", hint=hint)
    text = corpus.piece(reference.context, PLACE)
    batch = left_padded([text], 0)
    logits = reference.forward(batch.ids, batch.mask, batch.positions).logits[0]
    prompts = [(n, *half) for n in sorted(chosen) for half in ((), (max(n // 2, 1),)) if not half or n in padded]
    return Lengths(text, logits, best_of(logits), tuple(prompts))


def within(questions: Sequence[Mapping[str, Any]], extent: Extent) -> list[Mapping[str, Any]]:
    """Return those of the questions (`Lengths.asked`) that are asked where not all of them are."""
    return [
        question
        for question in questions
        if _belongs([len(row) - question["given"] for row in question["rows"]], extent)
    ]


def answer(question: Mapping[str, Any], pad: int, forward: Forward) -> list[Top]:
    """Answer one question by a program's own pass: of each row and position the likeliest tokens."""
    rows, given = [np.asarray(row, np.int64) for row in question["rows"]], question["given"]
    batch = left_padded([row[:-given] for row in rows], pad)
    logits, cache = forward(batch.ids, batch.mask, batch.positions, None)
    top = [top_of(own[real == 1]) for own, real in zip(logits, batch.mask, strict=True)]
    mask = batch.mask
    for step in range(-given, 0):
        mask = np.concatenate([mask, np.ones((len(rows), 1), np.int64)], axis=1)
        positions = mask.sum(axis=1, keepdims=True) - 1
        logits, cache = forward(np.stack([row[step : step + 1 or None] for row in rows]), mask, positions, cache)
        for own, found in zip(top, logits, strict=True):
            own.extend(top_of(found))
    return top


def _belongs(rows: Sequence[int], extent: Extent) -> bool:
    return rows[0] <= (extent.longest if len(rows) == 1 else min(extent.longest, extent.padded))


def name_of(rows: Sequence[int]) -> str:
    """Return what the report calls a prompt: its tokens, and those of the row beside it."""
    return "+".join(map(str, rows))
