"""Is what a release answered what PyTorch answers, within the recipe's tolerances?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.releases.questions import Asked, name_of
from model.releases import DIFFERS, RIGHT, ReleasedFile
from verify.check import largest
from verify.interop.comparator import first_difference
from verify.interop.questions import Group
from verify.scoring.near_ties import margin


@dataclass(frozen=True)
class Allowed:
    """State how far logits may be off: of a pass without a cache, and of a step behind one."""

    whole: float
    step: float


@dataclass(frozen=True)
class QuestionResult:
    """The largest error of one question, and what is allowed."""

    question: str
    error: float
    allowed: float

    @property
    def right(self) -> bool:
        """Return whether it is within the tolerance."""
        return self.error <= self.allowed


def forced(asked: Asked, path: Path, allowed: Allowed) -> Iterator[QuestionResult]:
    """Judge the logits that ask.py or ask_web.mjs wrote; ValueError when they are not as many as asked for."""
    found = np.fromfile(path, "<f4")
    sizes = [case.logits.size for case in asked.cases]
    if found.size != sum(sizes):
        raise ValueError(f"{found.size} logits, {sum(sizes)} were asked for")
    for case, own in zip(asked.cases, np.split(found, np.cumsum(sizes)[:-1]), strict=True):
        logits, real = own.reshape(case.logits.shape), case.batch.mask == 1
        for bound, part, name in (
            (allowed.whole, slice(0, case.prompt), case.name),
            (allowed.step, slice(case.prompt, None), f"{case.name}, decoding"),
        ):
            chosen = real[:, part]
            yield QuestionResult(name, largest(logits[:, part][chosen], case.logits[:, part][chosen]), bound)


def free(asked: Asked, answers: Sequence[Mapping[str, Any]], allowed: float) -> Iterator[QuestionResult]:
    """Judge texts that Transformers.js continued: the logits that it states for each step, and the tokens chosen."""
    for group, own in zip(asked.groups, answers, strict=True):
        lengths = group.batch.mask.sum(axis=1).tolist()
        errors = [_text(group, row, own) for row in range(len(lengths))]
        yield QuestionResult(name_of(lengths), max(errors), allowed)


def entry_of(place: tuple[str, str, str, str], answers: Sequence[QuestionResult]) -> ReleasedFile:
    """Return the entry of a program that answered: right, or which questions are not and by how much."""
    wrong = tuple(answer.question for answer in answers if not answer.right)
    worst = max(answers, key=lambda answer: answer.error / answer.allowed)
    error = worst.error if np.isfinite(worst.error) else None
    release, program, engine, variant = place
    return ReleasedFile(release, program, engine, variant, DIFFERS if wrong else RIGHT, error, worst.allowed, wrong)


def _text(group: Group, row: int, own: Mapping[str, Any]) -> float:
    """Return the largest error up to the first token that differs, or by how much PyTorch preferred its own there.

    It is infinite when the prompt is other tokens, or a number is none.
    """
    if own["ids"][row] != group.batch.ids[row][group.batch.mask[row] == 1].tolist():
        return float("inf")
    tokens, logits = own["tokens"][row], group.logits[row]
    at, steps = first_difference(group, row, tokens)
    stated = ((step, token, value) for step in range(steps) for token, value in own["top"][row][step])
    errors = [0.0, *(abs(value - float(logits[step, token])) for step, token, value in stated)]
    if at is not None:
        errors.append(margin(logits[at], tokens[at]) / 2 if at < len(tokens) else np.inf)
    worst = float(np.max(errors))
    return worst if np.isfinite(worst) else float("inf")
