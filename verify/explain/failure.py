"""Which failed measure is explained, on which input: the first of the check's own cases that fails alone."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.recipe.recipe import Recipe
from verify.candidate.session import positions_of
from verify.check import Array, Case, Check, load
from verify.checks import logits
from verify.checks.divergence import chunk_case
from verify.explain.input import Input
from verify.reference.corpus import Batch, Corpus
from verify.sandbox.worker import CandidateError, Worker
from verify.verdict import Judged, Result

if TYPE_CHECKING:  # torch takes seconds to load
    from verify.reference.model import Reference

# The simplest first: a large error of one pass says more than a mean over thousands of tokens.
ORDER = (
    "logits.max_abs",
    "cache.max_abs",
    "cache.present_max_abs",
    "cache.self_max_abs",
    "logits.batch_dependence",
    "logits.on_demand",
    "logits.argmax_mismatch",
    "divergence.mean_kld",
    "divergence.p999_kld",
    "divergence.ln_ppl_ratio",
    "divergence.same_top",
    "logits.near_ties",
    "generation",
)
SHORTEST = 4  # tokens of a chunk whose second half scores something
FILES = ("tokenizer",)  # checks of files beside the graph
RUNNING = ("logits", "cache", "divergence", "generation")  # checks that feed a text, which can be cut smaller


@dataclass(frozen=True)
class Failure:
    """A measure out of its bound at a level, or a run that stopped (`figure` None), on one input."""

    variant: str
    check: str
    level: str
    figure: str | None
    bound: float
    upper: bool
    input: Input
    case: str
    observed: Mapping[str, float] = field(default_factory=dict)

    @property
    def keeps(self) -> tuple[int, ...]:
        """How many of the last positions' logits the failing calls asked for; 0: all."""
        return {"on_demand": (1, 2), "self_max_abs": (0, 1)}.get(self.figure or "", (0,))

    def on(self, given: Input) -> Failure:
        """The same failure on another input."""
        return replace(self, input=given)


@dataclass(frozen=True)
class Trial:
    """Runs a failure's check on any input: the check's own measure, held to the same bound."""

    reference: Reference
    worker: Worker
    scratch: Path

    def value(self, failure: Failure, given: Input) -> float:
        """The measure on this input; infinity where the candidate gives none (NaN, an error, a crash)."""
        if failure.check == "divergence" and given.ids.shape[1] < SHORTEST:
            return 0.0 if failure.upper else 1.0
        case = case_of(failure.check, self.reference, given)
        with tempfile.TemporaryDirectory(dir=self.scratch) as place:
            case.save(Path(place) / "case")
            try:
                partial = self.worker.judge(failure.check, Path(place) / "case")
            except CandidateError:
                return math.inf if failure.upper else -math.inf
        if failure.figure is None:
            return -math.inf  # it ran, so it does not fail
        measures = load(failure.check).summarize([partial], dict(failure.observed), self.reference)
        found = next((m.value for m in measures if m.name == failure.figure), 0.0)
        return found if math.isfinite(found) else math.inf

    def fails(self, failure: Failure, given: Input) -> bool:
        """Whether the measure is out of its bound on this input."""
        value = self.value(failure, given)
        return value > failure.bound if failure.upper else value < failure.bound


def case_of(check: str, reference: Reference, given: Input) -> Case:
    """A case of the check `logits`, `cache` or `divergence` on one input, with the reference's answer."""
    if check == "divergence":
        return chunk_case(reference, given.ids[0], 0)
    if check == "logits":
        return logits.case_of("minimised", Batch(given.ids, given.mask, given.positions), reference)
    answer = reference.forward(given.ids, given.mask, given.positions)
    arrays = {"ids": given.ids, "mask": given.mask, "positions": given.positions, "logits": answer.logits}
    present = {f"present.{name}": value for name, value in answer.present().items()}
    return Case("minimised", {**arrays, **present}, {"plans": {"minimised": list(given.pieces)}})


def failed_measures(results: Sequence[Result]) -> list[tuple[Result, Judged | None]]:
    """What failed of one variant by computing, the simplest first; None: the check has no measures, it stopped."""
    found: list[tuple[Result, Judged | None]] = []
    for result in results:
        if result.check in RUNNING:
            found += [(result, None)] if result.failure is not None else []
            found += [(result, judged) for judged in result.measures if not judged.passed]

    def place(entry: tuple[Result, Judged | None]) -> int:
        name = f"{entry[0].check}.{entry[1].measure.name}" if entry[1] else entry[0].check
        return next((i for i, known in enumerate(ORDER) if name.startswith(known)), len(ORDER))

    return sorted(found, key=place)


@dataclass(frozen=True)
class Context:
    """What the checks ran with; see `verify.run_checks.Examination`."""

    recipe: Recipe
    reference: Reference
    corpus: Corpus
    modules: Mapping[str, Check]
    settings: Mapping[str, Any]


def failures(context: Context, results: Sequence[Result]) -> Iterator[Failure]:
    """Every input of the failed checks, as a failure to try, for one variant's results, the simplest first."""
    for result, judged in failed_measures(results):
        check, figure, bound, upper = _criterion(context.recipe, result, judged)
        level = result.level if result.level != "any" else context.recipe.verify.levels[-1]
        # A run that stopped names its case; of the other cases nothing is known that would make them worth a run.
        module, settings = context.modules[result.check], context.settings[result.check]
        for case in module.cases(context.reference, context.corpus, settings):
            for plan, given in inputs_of(result.check, case):
                yield Failure(result.variant, check, level, figure, bound, upper, given, f"{case.name}{plan}")


def _criterion(recipe: Recipe, result: Result, judged: Judged | None) -> tuple[str, str | None, float, bool]:
    """Check, figure, bound and side. A choice of token is explained by the logits behind it, in the same calls."""
    if judged is None:
        return ("cache" if result.check == "generation" else result.check), None, 0.0, True
    if result.check == "generation":
        known = "cache" if "max_abs" in recipe.tolerances.get("cache", {}) else "logits"
        return known, "max_abs", recipe.limit(known, "max_abs", result.variant).bound, True
    bound = judged.bound if judged.bound is not None else 0.0
    return result.check, judged.measure.name, bound, judged.upper


def inputs_of(check: str, case: Case) -> Iterator[tuple[str, Input]]:
    """What a case feeds: its name's ending, and the input."""
    ids = np.atleast_2d(np.asarray(case.arrays["ids"]))
    mask = np.asarray(case.arrays["mask"]) if "mask" in case.arrays else np.ones_like(ids)
    if check == "cache":
        for name, plan in case.facts["plans"].items():
            yield f": {name}", Input(ids, mask, tuple(plan), _places(case, mask))
    elif check == "generation":
        known = case.arrays.get("tokens")
        tokens = np.atleast_2d(np.asarray(case.facts["tokens"] if known is None else known, np.int64))[:, :-1]
        ones = np.ones_like(tokens)
        pieces = (ids.shape[1], *[1] * tokens.shape[1])
        yield "", Input(np.concatenate([ids, tokens], axis=1), np.concatenate([mask, ones], axis=1), pieces)
    else:
        yield "", Input(ids, mask, (ids.shape[1],), _places(case, mask))


def _places(case: Case, mask: Array) -> Array | None:
    """The positions that a case feeds, where they are not the loaders' own."""
    known = case.arrays.get("positions")
    return None if known is None or np.array_equal(known, positions_of(mask)) else np.asarray(known)
