"""Head-room: how much of each tolerance a candidate uses."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from verify.verdict import Judged, Result


def headroom(results: Sequence[Result]) -> list[dict[str, Any]]:
    """For every variant, check and measure held to a tolerance: the worst value over the levels, its share of it.

    Of onnxruntime alone: what other runtimes are asked is a sample, with bounds that allow for its size.
    """
    return worst(
        _entry(result, judged)
        for result in results
        if result.runtime == "onnxruntime"
        for judged in result.measures
        if judged.measure.fixed is None and judged.measure.judged
    )


def worst(entries: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of the entries for each variant, check and measure, the worst."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for entry in entries:
        key = entry["variant"], entry["check"], entry["measure"]
        if key not in found or _size(entry) > _size(found[key]):
            found[key] = entry
    return list(found.values())


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


def grouped(entries: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, dict[str, Mapping[str, Any]]]]:
    """Each figure (`check.measure`) with its entries by variant."""
    names = dict.fromkeys(f"{entry['check']}.{entry['measure']}" for entry in entries)
    for name in names:
        yield name, {e["variant"]: e for e in entries if f"{e['check']}.{e['measure']}" == name}
