"""Head-room: how much of each tolerance a candidate uses, and the smallest tolerances that would pass, as TOML."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal
from typing import Any

from artifact.canonical import canonical_json
from artifact.recipe import Limit, Recipe
from verify.verdict import Judged, Result

DIGITS = 3  # significant digits of a printed bound; rounding is always to the side that passes


def headroom(results: Sequence[Result]) -> list[dict[str, Any]]:
    """For every variant, check and measure with a tolerance: the worst value over the levels, and its share of it."""
    worst: dict[tuple[str, str, str], dict[str, Any]] = {}
    for result in results:
        for judged in result.measures:
            if judged.bound is None or judged.measure.fixed is not None:
                continue
            key = result.variant, result.check, judged.measure.name
            entry = _entry(result, judged)
            if key not in worst or _size(entry) > _size(worst[key]):
                worst[key] = entry
    return list(worst.values())


def used(value: float, bound: float, *, upper: bool) -> float:
    """Share of a tolerance that a value uses: at most 1 exactly if it passes, infinite if no multiple of it would.

    The deviation of a figure with a lower bound is what it lacks to 1: such figures are shares of agreement.
    """
    deviation, allowed = (value, bound) if upper else (1 - value, 1 - bound)
    if not math.isfinite(deviation):
        return math.inf
    if allowed <= 0:
        return 0.0 if deviation <= allowed else math.inf
    return max(deviation, 0.0) / allowed


def tolerances(report: Mapping[str, Any], recipe: Recipe, factor: float) -> str:
    """The recipe's tables [tolerances.*] with what this report measured, ready to be pasted over those there.

    Bounds are `factor` times the measured deviation: 1 gives the smallest that pass. Variants and figures that the
    report does not judge keep the recipe's. Each line says what the bound was, and how much of it was used.
    """
    measured = {(e["check"], e["measure"], e["variant"]): e for e in report["headroom"]}
    lines = []
    for check, figures in recipe.tolerances.items():
        for figure, tolerance in figures.items():
            reason = canonical_json(tolerance.reason).decode("utf-8")  # a JSON string is a TOML basic string
            lines += [f"[tolerances.{check}.{figure}]", f"reason = {reason}"]
            for variant, limit in tolerance.limits.items():
                entry = measured.get((check, figure, variant))
                lines.append(f"{variant} = {_line(limit, entry, factor)}")
            lines.append("")
    return "\n".join(lines)


def percent(share: float | None) -> str:
    """A share of a tolerance, for people."""
    if share is None:
        return "∞"
    return f"{100 * share:.0f} %" if share == 0 or share >= 0.01 else "< 1 %"


def _entry(result: Result, judged: Judged) -> dict[str, Any]:
    measure, bound = judged.measure, judged.bound
    share = math.inf if bound is None else used(measure.value, bound, upper=judged.upper)
    return {
        "variant": result.variant,
        "check": result.check,
        "measure": measure.name,
        "level": result.level,
        "value": measure.value if math.isfinite(measure.value) else None,
        "standard_error": measure.error if measure.error is not None and math.isfinite(measure.error) else None,
        "bound": bound,
        "upper": judged.upper,
        "used": share if math.isfinite(share) else None,
        "passed": judged.passed,
    }


def _size(entry: Mapping[str, Any]) -> tuple[bool, float, float]:
    """Orders entries of one figure: what fails before what passes, then by share, then (bounds of 0) by value."""
    share = math.inf if entry["used"] is None else entry["used"]
    value = math.inf if entry["value"] is None else entry["value"]
    return not entry["passed"], share, value


def _line(limit: Limit, entry: Mapping[str, Any] | None, factor: float) -> str:
    side = "max" if limit.upper else "min"
    kept = f"{{ {side} = {limit.bound!r}, measured = {limit.measured!r} }}"
    if entry is None:
        return f"{kept} # not measured in this run"
    if entry["value"] is None:
        return f"{kept} # not finite in this run: no tolerance would pass"
    value = float(entry["value"])
    deviation = value if limit.upper else 1 - value
    bound = max(factor * deviation if limit.upper else 1 - factor * deviation, 0.0)
    outward = ROUND_CEILING if limit.upper else ROUND_FLOOR
    text = f"{{ {side} = {_round(bound, outward)}, measured = {_round(value, ROUND_HALF_EVEN)} }}"
    state = "" if entry["passed"] else ", FAILED"
    return f"{text} # was {limit.bound:g}, {percent(entry['used'])} used{state}"


def _round(value: float, rounding: str) -> str:
    """A TOML number of DIGITS significant digits."""
    return f"{float(Decimal(value).normalize(Context(prec=DIGITS, rounding=rounding))):.{DIGITS}g}"


def grouped(entries: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, dict[str, Mapping[str, Any]]]]:
    """Each figure (`check.measure`) with its entries by variant."""
    names = dict.fromkeys(f"{entry['check']}.{entry['measure']}" for entry in entries)
    for name in names:
        yield name, {e["variant"]: e for e in entries if f"{e['check']}.{e['measure']}" == name}
