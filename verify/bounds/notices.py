"""Say where a run leaves what the recipe's tolerances rest on: its instruction sets, its ranges of numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.recipe.recipe import Recipe
from verify.checks.logits import RANGE


def notices(recipe: Recipe, report: Mapping[str, Any]) -> list[str]:
    """Return a line for each, for the report and the terminal; none of them is a failure."""
    best, known = report["environment"]["instruction_sets"][0], recipe.basis.measured_on
    lines = []
    if not known:
        lines.append("the recipe does not state on which instruction sets its tolerances were measured")
    elif best not in known:
        sets = ", ".join(known)
        lines.append(f"this processor has {best}; tolerances that are not derived were measured on {sets}")
    for name, value in ranges(report).items():
        stated = getattr(recipe.basis, name)
        if stated is not None and value > stated:
            lines.append(
                f"bounds were derived for tolerances.{name} = {stated:g}, and the reference has {value:.3g}: "
                "verify --tolerances derives them anew"
            )
    return lines


def ranges(report: Mapping[str, Any]) -> dict[str, float]:
    """Return the largest absolute values of the reference that the checks met, by their keys in [tolerances]."""
    found: dict[str, float] = {}
    for result in report["results"]:
        for measure in result["measures"]:
            if measure["name"] == RANGE and measure["value"] is not None:
                name = f"{result['check']}_range"
                found[name] = max(found.get(name, 0.0), measure["value"])
    return found
