"""Head-room: how much of each tolerance a candidate uses, and the smallest tolerances that would pass, as TOML."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal
from typing import Any

from pipeline.canonical import canonical_json
from pipeline.recipe.recipe import Recipe
from pipeline.recipe.tolerances import Limit, Tolerance
from verify.verdict import Judged, Result

DIGITS = 3  # significant digits of a printed bound; rounding is always to the side that passes


def headroom(results: Sequence[Result]) -> list[dict[str, Any]]:
    """For every variant, check and measure held to a tolerance: the worst value over the levels, its share of it.

    Of onnxruntime alone: what other runtimes are asked is a sample, with bounds that allow for its size.
    """
    worst: dict[tuple[str, str, str], dict[str, Any]] = {}
    for result in (result for result in results if result.runtime == "onnxruntime"):
        for judged in result.measures:
            if judged.measure.fixed is not None or not judged.measure.judged:
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
    report does not judge keep the recipe's, and so does a deviation of 0 when room is asked for. Each line says what
    the bound was, and how much of it was used. A figure that the recipe has no tolerance for gets an empty reason,
    which a recipe must not have: a person writes it.
    """
    measured = {(e["check"], e["measure"], e["variant"]): e for e in report["headroom"]}
    names = [(check, figure) for check, figures in recipe.tolerances.items() for figure in figures]
    lines = []
    for check, figure in dict.fromkeys([*names, *((check, figure) for check, figure, _ in measured)]):
        tolerance = recipe.tolerances.get(check, {}).get(figure, Tolerance("", {}))
        reason = canonical_json(tolerance.reason).decode("utf-8")  # a JSON string is a TOML basic string
        lines += [f"[tolerances.{check}.{figure}]", f"reason = {reason}"]
        for variant in ("fp32", *recipe.variants):
            limit, entry = tolerance.limits.get(variant), measured.get((check, figure, variant))
            if limit is not None or entry is not None:
                lines.append(_line(variant, limit, entry, factor))
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
        "runtime": result.runtime,
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


def _line(variant: str, limit: Limit | None, entry: Mapping[str, Any] | None, factor: float) -> str:
    """One variant's limit: as measured, or the recipe's where nothing finite was."""
    if entry is None or entry["value"] is None:
        why = "not measured in this run" if entry is None else "not finite in this run: no tolerance would pass"
        if limit is None:
            return f"# {variant}: {why}"
        side = "max" if limit.upper else "min"
        return f"{variant} = {{ {side} = {limit.bound!r}, measured = {limit.measured!r} }} # {why}"
    value, upper = float(entry["value"]), entry["upper"]
    deviation = value if upper else 1 - value
    if deviation == 0 and factor > 1 and limit is not None:  # no multiple of nothing leaves room for another processor
        side = "max" if limit.upper else "min"
        return f"{variant} = {{ {side} = {limit.bound!r}, measured = {_round(value, ROUND_HALF_EVEN)} }} # kept"
    bound = max(factor * deviation if upper else 1 - factor * deviation, 0.0)
    side, outward = ("max", ROUND_CEILING) if upper else ("min", ROUND_FLOOR)
    text = f"{variant} = {{ {side} = {_round(bound, outward)}, measured = {_round(value, ROUND_HALF_EVEN)} }}"
    if limit is None:
        return f"{text} # had no bound"
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
