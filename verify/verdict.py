"""The verdict: every measure against its bound. What could not be measured has failed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

from artifact.errors import RecipeError
from artifact.recipe import Recipe
from artifact.typed import did_you_mean
from verify.check import Measure


@dataclass(frozen=True)
class Judged:
    """A measure, its bound (None: shown only), whether it holds, and why the bound is what it is."""

    measure: Measure
    bound: float | None
    upper: bool
    passed: bool
    reason: str


@dataclass(frozen=True)
class Result:
    """One check of one candidate at one level. `failure` or `not_run` says why there are no measures, if so."""

    variant: str
    check: str
    level: str
    measures: tuple[Judged, ...]
    failure: str | None = None
    not_run: str | None = None

    @property
    def passed(self) -> bool:
        """Whether the check ran, measured something, and every bound holds."""
        return self.failure is None and bool(self.measures) and all(judged.passed for judged in self.measures)


def require_tolerances(recipe: Recipe, modules: dict[str, ModuleType], variants: Sequence[str]) -> None:
    """Refuse, before any work, a recipe that leaves a figure unbounded, bounds the wrong side, or names no figure."""
    for check, figures in recipe.tolerances.items():
        for figure in figures:
            if check in modules and figure not in modules[check].TOLERATED:
                where = f"{recipe.path}: tolerances.{check}"
                hint = did_you_mean(figure, modules[check].TOLERATED)
                raise RecipeError(f"{check} measures no {figure!r}", where=where, hint=hint)
    for check, module in modules.items():
        for figure, side in module.TOLERATED.items():
            for variant in variants:
                if recipe.limit(check, figure, variant).upper != (side == "max"):
                    where = f"{recipe.path}: tolerances.{check}.{figure}.{variant}"
                    raise RecipeError("bound on the wrong side", where=where, hint=f"write {{ {side} = ..., ... }}")


def judge(recipe: Recipe, check: str, variant: str, measure: Measure) -> Judged:
    """Hold one measure to its bound. NaN and infinity hold to none, nor does a value with nothing compared."""
    counts = measure.compared > 0 and math.isfinite(measure.value)
    if measure.fixed is not None:
        holds = measure.value <= measure.fixed
        return Judged(measure, measure.fixed, upper=True, passed=counts and holds, reason="any is a fault")
    if not measure.judged:
        return Judged(measure, None, upper=True, passed=counts, reason="")
    limit = recipe.limit(check, measure.name, variant)
    holds = measure.value <= limit.bound if limit.upper else measure.value >= limit.bound
    reason = recipe.tolerances[check][measure.name].reason
    return Judged(measure, limit.bound, limit.upper, passed=counts and holds, reason=reason)
