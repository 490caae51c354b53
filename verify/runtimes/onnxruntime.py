"""onnxruntime itself, at every level of its graph optimizations and with one thread and two.

Levels rewrite the graph (fusions, layouts, folded constants) and threads cut the sums differently, so each combination
is another program that users run. They are compared with the reference and with each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import RecipeError
from pipeline.typed import did_you_mean
from pipeline.variants import model_file
from verify.candidate.session import Candidate, positions_of
from verify.check import Array
from verify.interop import lengths
from verify.interop.runtime import Answers, Bounds, Missing, Running, Task
from verify.sandbox.isolated import isolated

PARTS = ("passes", "spread", "lengths")
UNREADABLE = None
IN_PLACE = True
SLOW = False
LEVELS = ("disable_all", "basic", "extended", "all")


@dataclass(frozen=True)
class Settings:
    """Optimization levels and numbers of threads; all pairs are run, and compared with the first one that is asked."""

    levels: tuple[str, ...] = LEVELS
    threads: tuple[int, ...] = (1, 2)

    def check(self, where: str) -> None:
        """RecipeError for a level that onnxruntime does not have, and for no thread."""
        for level in self.levels:
            if level not in LEVELS:
                raise RecipeError(f"no level {level!r}", where=f"{where}: levels", hint=did_you_mean(level, LEVELS))
        if not self.levels or not self.threads or min(self.threads) < 1:
            raise RecipeError("nothing to run", where=where, hint="name at least one level and one number of threads")


EVERY = Settings()


def configurations(settings: Settings) -> Mapping[str, tuple[str, int]]:
    """All pairs of a level and a number of threads, by what reports call them."""
    return {
        f"{named(level)}, {threads} thread{'s' if threads > 1 else ''}": (named(level), threads)
        for level in settings.levels
        for threads in settings.threads
    }


def missing(settings: Settings) -> Missing | None:
    """Never: the pipeline itself needs onnxruntime."""
    return None


def unsupported(graph: Path, settings: Settings) -> Mapping[str, str]:
    """Nothing that is known."""
    return {}


def version(settings: Settings) -> str:
    """The library's."""
    return f"onnxruntime {installed('onnxruntime')}"


def running(settings: Settings, bounds: Bounds) -> Running:
    """See verify/interop/runtime.py."""
    return isolated(__name__, settings, bounds)


def named(level: str) -> str:
    """Return what a session and a report call a recipe's level."""
    return "enable_all" if level == "all" else level if level == "disable_all" else f"enable_{level}"


def answer(task: Task, settings: Settings) -> Answers:
    """Logits of the batch, whole and as a last step after a cache, for each level and number of threads; of prompts.

    Questions without a batch, which are of files without roundings, are answered about prompts alone.
    """
    answers: dict[str, dict[str, Any]] = {}
    first: dict[str, Array] | None = None
    for place, (level, threads) in configurations(settings).items():
        if task.extent(place).nothing:
            continue
        candidate = Candidate(task.repository / model_file(task.variant), level, threads=threads)
        parts: dict[str, Any] = {}
        if "batch" in task.questions:
            own = _passes(candidate, task.questions["batch"])
            first = first or own
            parts = {"passes": own, "spread": [(own[key], first[key]) for key in own]}
        parts["lengths"] = [
            lengths.answer(question, task.questions["end"] or 0, partial(_forward, candidate))
            for question in task.lengths(place)
        ]
        answers[place] = parts
    return answers


def _forward(candidate: Candidate, ids: Array, mask: Array, positions: Array, cache: Any) -> tuple[Array, Any]:
    step = candidate.forward(ids, mask, positions, cache)
    return step.logits, step.cache


def _passes(candidate: Candidate, batch: Mapping[str, Any]) -> dict[str, Array]:
    ids, mask = np.asarray(batch["ids"], np.int64), np.asarray(batch["mask"], np.int64)
    positions = positions_of(mask)
    whole = candidate.forward(ids, mask, positions).logits
    cache = candidate.forward(ids[:, :-1], mask[:, :-1], positions[:, :-1], keep=1).cache
    step = candidate.forward(ids[:, -1:], mask, positions[:, -1:], cache).logits[:, -1]
    # What is computed at padding means nothing, and may differ.
    return {"whole": np.where(mask[..., None] == 1, whole, 0), "step": step}
