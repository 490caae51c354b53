"""Find which failed measure is explained, on which input: the first of the check's own cases that fails alone."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.recipe.recipe import Recipe
from verify.candidate.input import Input
from verify.check import Ease, Explaining, load
from verify.run_checks import Examination
from verify.sandbox.worker import CandidateError, Worker
from verify.verdict import Judged, Result

if TYPE_CHECKING:  # torch takes seconds to load
    from verify.reference.model import Reference

LOGITS = "max_abs"  # the measure of the logits behind a choice


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
        """Return how many of the last positions' logits the failing calls asked for; 0: all."""
        return _explaining(self.check).keeps.get(self.figure or "", (0,))

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
        own = _explaining(failure.check)
        if given.ids.shape[1] < own.shortest:
            return 0.0 if failure.upper else 1.0
        if own.case is None:
            raise ValueError(f"the check {failure.check} is not run on single inputs")
        case = own.case(self.reference, given)
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
        """Return whether the measure is out of its bound on this input."""
        value = self.value(failure, given)
        return value > failure.bound if failure.upper else value < failure.bound


def traceable(check: str) -> bool:
    """Return whether a check can be run on single inputs, to find the node at fault."""
    own = load(check).EXPLAINING
    return own is not None and own.case is not None


def _explaining(check: str) -> Explaining:
    own = load(check).EXPLAINING
    if own is None:
        raise ValueError(f"the check {check} states no way to explain it")
    return own


def failed_measures(results: Sequence[Result]) -> list[tuple[Result, Judged | None]]:
    """Return what failed of one variant by computing, simplest first; None: the check has no measures, it stopped."""
    found: list[tuple[Result, Judged | None]] = []
    for result in results:
        if load(result.check).EXPLAINING is not None:
            found += [(result, None)] if result.failure is not None else []
            found += [(result, judged) for judged in result.measures if not judged.passed]

    def place(entry: tuple[Result, Judged | None]) -> tuple[int, int]:
        result, judged = entry
        known = _explaining(result.check).measures
        if judged is None:
            return len(Ease), 0
        order = list(known)
        name = judged.measure.name
        return (known[name], order.index(name)) if name in known else (max(known.values()), len(order))

    return sorted(found, key=place)


def failures(examination: Examination, results: Sequence[Result]) -> Iterator[Failure]:
    """Every input of the failed checks, as a failure to try, for one variant's results, the simplest first."""
    for result, judged in failed_measures(results):
        check, figure, bound, upper = _criterion(examination.recipe, result, judged)
        level = result.level if result.level != "any" else examination.recipe.verify.levels[-1]
        # A run that stopped names its case; of the other cases nothing is known that would make them worth a run.
        for case in examination.cases(result.check):
            for plan, given in _explaining(result.check).inputs(case):
                yield Failure(result.variant, check, level, figure, bound, upper, given, f"{case.name}{plan}")


def _criterion(recipe: Recipe, result: Result, judged: Judged | None) -> tuple[str, str | None, float, bool]:
    """Check, figure, bound and side. A choice of token is explained by the logits behind it, in the same calls."""
    by = _explaining(result.check).by
    if judged is None:
        return (by[0] if by else result.check), None, 0.0, True
    if by:
        known = next((name for name in by if LOGITS in recipe.tolerances.get(name, {})), by[-1])
        return known, LOGITS, recipe.limit(known, LOGITS, result.variant).bound, True
    bound = judged.bound if judged.bound is not None else 0.0
    return result.check, judged.measure.name, bound, judged.upper
