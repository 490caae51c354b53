"""Does a runtime say what the reference says? One judge for each part of the questions; judges know no runtime.

A runtime continues texts freely, as its users let it. Up to a row's first token that differs it has read what the
reference has read, so tokens and logits are compared up to there, and never past the reference's end token. The token
that differs is a near tie if the reference was undecided there within the recipe's tolerance for logits (docs/decisions
0006); near ties are bounded as the check `generation` bounds them, any other difference is a mismatch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.recipe.runtimes import Extent
from verify.check import Array, Measure, largest
from verify.interop.likeliest import best_of, errors
from verify.interop.questions import Group, Questions, noise
from verify.scoring import near_ties
from verify.scoring.decoding import ReferenceDecoder, draw_margin, sequence_score
from verify.scoring.near_ties import Difference, margin

if TYPE_CHECKING:  # torch takes seconds to load
    from verify.reference.model import Reference

Found = dict[str, list[Measure]]  # by check


@dataclass(frozen=True)
class Judgement:
    """The questions, the reference (for scores of other texts), the variant's tolerance for logits, what is no text."""

    questions: Questions
    reference: Reference
    error: float
    unreadable: str | None = None
    rows: int | None = None  # of the batch that were asked for, the first ones, where not all of them were
    extent: Extent = field(default_factory=Extent)  # which of the texts and of the prompts were asked

    def judge(self, part: str, answer: Any) -> Found:
        """Measures of one part, by the check they belong to; raises what a malformed answer raises."""
        judges: Mapping[str, Callable[[Any], Found]] = {
            "texts": self._texts,
            "strings": self._strings,
            "sampling": self._sampling,
            "beams": self._beams,
            "passes": self._passes,
            "spread": self._spread,
            "lengths": self._lengths,
        }
        return judges[part](answer)

    def _texts(self, answer: Sequence[Mapping[str, Any]]) -> Found:
        """Greedy texts: `ids` and `tokens` by row, `top` by row and step: the likeliest tokens with their logits."""
        differing, compared, stated, worst, wrong = [], 0, 0, [np.zeros(1)], []
        groups = self.questions.groups[: self.extent.texts]
        for number, (group, own) in enumerate(zip(groups, answer, strict=True)):
            for row in range(len(group.texts)):
                if own["ids"][row] != group.batch.ids[row][group.batch.mask[row] == 1].tolist():
                    wrong.append(f"text {number} row {row}: the prompt is other tokens")
                at, steps = first_difference(group, row, own["tokens"][row])
                top = own["top"][row][:steps]
                worst.append(errors(top, group.logits[row][: len(top)], best_of(group.logits[row][: len(top)])))
                stated += sum(map(len, top))
                compared += steps
                if at is not None:
                    choice = own["tokens"][row][at] if at < len(own["tokens"][row]) else None
                    gap = np.inf if choice is None else margin(group.logits[row, at], choice)
                    differing.append(Difference(f"text {number} row {row} step {at}", gap))
        error = float(np.concatenate(worst).max())
        return {
            "tokenizer": [Measure("prompts", len(wrong), sum(len(g.texts) for g in groups), fixed=0)],
            "logits": [Measure("max_abs", error, stated, unit="logit", detail="likeliest tokens, each step")],
            "generation": self._measures("greedy", differing, compared, "steps"),
        }

    def _strings(self, answer: Sequence[list[int] | None]) -> Found:
        """Token ids of every string, None for one that the runtime's interface cannot take."""
        refused = [own is None for own in answer]
        excused = [bool(self.unreadable and re.search(self.unreadable, text)) for text in self.questions.strings]
        wrong = [
            f"{text[:20]!r}: {_shown(own)}, not {_shown(ids)}"
            for text, own, ids, spare in zip(
                self.questions.strings, answer, self.questions.string_ids, excused, strict=True
            )
            if own != ids and not (own is None and spare)
        ]
        read = f"{len(answer) - sum(refused)} read, {sum(refused)} that its interface cannot take"
        return {
            "tokenizer": [
                Measure("tokens", len(wrong), len(answer) - sum(refused), fixed=0, detail="; ".join([read, *wrong[:3]]))
            ]
        }

    def _sampling(self, answer: Mapping[str, Any]) -> Found:
        """Sampled text: `tokens` by row, `logits` float32 [rows, steps, vocabulary] before any sampling rule."""
        group, logits = self.questions.sampled, np.asarray(answer["logits"])
        rows, steps, vocabulary = group.logits.shape
        drawn = noise(self.questions.seed, steps, rows, vocabulary)
        differing, compared = [], 0
        for row in range(rows):
            at, same = first_difference(group, row, answer["tokens"][row])
            compared += same
            if at is not None:
                gap = np.inf
                if at < logits.shape[1]:
                    gap = draw_margin(group.logits[row, at], logits[row, at], drawn[at, row], self.questions.sampling)
                differing.append(Difference(f"row {row} step {at}", gap))
        return {"generation": self._measures("sampling", differing, compared, "steps")}

    def _beams(self, answer: Sequence[list[int]]) -> Found:
        """The best text of each beam search, its tokens up to the end token."""
        differing = []
        texts = [text for group in self.questions.groups for text in group.texts]
        for number, (wanted, tokens) in enumerate(zip(self.questions.beams, answer, strict=True)):
            if tokens != wanted.tokens:
                ids = np.asarray(self.reference.tokenizer(texts[number])["input_ids"], np.int64)
                score = sequence_score(ReferenceDecoder(self.reference), ids, tokens) if tokens else -np.inf
                gap = min((wanted.score - score) / 2, wanted.lead)
                differing.append(Difference(f"search {number}", gap))
        return {"generation": self._measures("beam", differing, len(answer), "searches")}

    def _passes(self, answer: Mapping[str, Array]) -> Found:
        """The batch's logits: `whole` [rows, length, vocabulary], `step` [rows, vocabulary] of the last token."""
        batch = self.questions.batch.first(self.rows)
        rows, length = batch.mask.shape
        real, wanted = batch.mask == 1, self.questions.whole[:rows, -length:]
        whole, step = largest(answer["whole"][real], wanted[real]), largest(answer["step"], wanted[:, -1])
        last = wanted[:, -1].size
        part = f"{rows} of {len(self.questions.batch.mask)} rows" if self.rows else ""
        after = "the last token after the others' cache"
        return {
            "logits": [Measure("max_abs", whole, wanted[real].size, unit="logit", detail=part)],
            "cache": [Measure("max_abs", step, last, unit="logit", detail=f"{after}; {part}" if part else after)],
        }

    def _spread(self, answer: Sequence[tuple[Array, Array]]) -> Found:
        """Pairs of logits that two configurations of one runtime gave for the same input."""
        worst = max(largest(one, other) for one, other in answer)
        compared = sum(one.size for one, _ in answer)
        return {"cache": [Measure("self_max_abs", worst, compared, unit="logit", detail="against the first one")]}

    def _lengths(self, answer: Sequence[Any]) -> Found:
        """Of every prompt of some length, row and position: the likeliest tokens with their logits."""
        return self.questions.lengths.measures(answer, self.extent)

    def _measures(self, kind: str, differing: Sequence[Difference], count: int, unit: str) -> list[Measure]:
        return near_ties.measures(kind, differing, count, unit, ("tolerance", self.error))


def first_difference(group: Group, row: int, tokens: Sequence[int]) -> tuple[int | None, int]:
    """Return the first step at which a row differs from the reference's (None: nowhere), and how many were compared.

    A row that stops short of the reference's text differs at the first token that it lacks.
    """
    counted = int(group.active[row].sum())
    for step in range(counted):
        if step >= len(tokens) or tokens[step] != int(group.tokens[row, step]):
            return step, step + 1
    return None, counted


def _shown(ids: Sequence[int] | None) -> str:
    return "refused" if ids is None else f"{list(ids[:6])}{'...' if len(ids) > 6 else ''}"
