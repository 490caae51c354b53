"""The verdict: every measure against its bound. What could not be measured has failed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.errors import RecipeError
from pipeline.recipe.recipe import Recipe
from pipeline.typed import did_you_mean
from verify.check import Check, Measure, load
from verify.interop.figures import of_runtimes


@dataclass(frozen=True)
class Judged:
    """A measure, its bound, whether it holds, and why the bound is what it is. No bound: shown only, or not set yet."""

    measure: Measure
    bound: float | None
    upper: bool
    passed: bool
    reason: str


@dataclass(frozen=True)
class Result:
    """One check of one candidate at one level. `failure` or `not_run` says why there are no measures, if so.

    `series` is what the report draws beside the measures: it is shown, never judged.
    """

    variant: str
    check: str
    level: str  # of a check the optimization level, or "any"; of a runtime its configuration
    measures: tuple[Judged, ...]
    failure: str | None = None
    series: Mapping[str, Any] = field(default_factory=dict)
    runtime: str = "onnxruntime"  # the program that ran the graph: the checks' own sessions, or one of verify/runtimes
    not_run: str | None = None

    @property
    def passed(self) -> bool:
        """Return whether the check ran, measured something, and every bound holds."""
        return self.failure is None and bool(self.measures) and all(judged.passed for judged in self.measures)


def require_tolerances(
    recipe: Recipe, modules: dict[str, Check], variants: Sequence[str], *, measuring: bool = False
) -> None:
    """Refuse, before any work, a recipe that leaves a figure unbounded, bounds the wrong side, or names no figure.

    `measuring` lets a figure without a bound be measured, to find one; it fails all the same.
    """
    for check, figures in recipe.tolerances.items():
        for figure in figures:
            known = {*modules[check].TOLERATED, *of_runtimes(check)} if check in modules else {figure}
            if figure not in known:
                where = f"{recipe.path}: tolerances.{check}"
                hint = did_you_mean(figure, sorted(known))
                raise RecipeError(f"{check} measures no {figure!r}", where=where, hint=hint)
    for check, module in modules.items():
        for figure, side in module.TOLERATED.items():
            for variant in variants:
                if measuring and not _bounded(recipe, check, figure, variant):
                    continue
                if recipe.limit(check, figure, variant).upper != (side == "max"):
                    where = f"{recipe.path}: tolerances.{check}.{figure}.{variant}"
                    raise RecipeError("bound on the wrong side", where=where, hint=f"write {{ {side} = ..., ... }}")


def judge(recipe: Recipe, check: str, variant: str, measure: Measure, *, allowance: float = 0.0) -> Judged:
    """Hold one measure to its bound. NaN and infinity hold to none, nor does a value with nothing compared.

    `allowance` is how far beyond the recipe's bound the value may be, for what is measured on a small sample.
    """
    counts = measure.compared > 0 and math.isfinite(measure.value)
    if measure.fixed is not None:
        holds = measure.value <= measure.fixed
        return Judged(measure, measure.fixed, upper=True, passed=counts and holds, reason="any is a fault")
    if not measure.judged:
        return Judged(measure, None, upper=True, passed=counts, reason="")
    if not _bounded(recipe, check, measure.name, variant):
        upper = load(check).TOLERATED.get(measure.name, "max") == "max"  # runtimes' own figures are bounded above
        return Judged(measure, None, upper, passed=False, reason="")
    limit = recipe.limit(check, measure.name, variant)
    beyond = measure.value - limit.bound if limit.upper else limit.bound - measure.value
    reason = recipe.tolerances[check][measure.name].reason
    return Judged(measure, limit.bound, limit.upper, passed=counts and beyond <= allowance, reason=reason)


def _bounded(recipe: Recipe, check: str, figure: str, variant: str) -> bool:
    return recipe.stated_limit(check, figure, variant) is not None
