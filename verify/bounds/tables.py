"""The recipe's tables [tolerances.*] as TOML: what is derived, and the smallest that would pass of what is measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal
from types import MappingProxyType
from typing import Any

from pipeline.canonical import toml_text
from pipeline.recipe.recipe import Recipe
from pipeline.recipe.tolerances import Basis, Limit, Tolerance
from pipeline.variants import base
from verify.bounds.derive import derive, rounded_up
from verify.bounds.notices import ranges
from verify.interop.figures import FIGURES
from verify.report.headroom import percent, worst

Key = tuple[str, str, str]  # check, figure, variant
SIDES = {True: "max", False: "min"}
DIGITS = 3  # significant digits of a printed bound; rounding is always to the side that passes


def tables(reports: Sequence[Mapping[str, Any]], recipe: Recipe, factor: float) -> str:
    """Return [tolerances] with what these reports, of one recipe on several processors, measured.

    The worst of them counts; ranges that a report exceeds are widened.
    """
    stated: dict[str, Any] = {field.name: getattr(recipe.basis, field.name) for field in fields(Basis)}
    for name, value in (item for report in reports for item in ranges(report).items()):
        if stated[name] is None or value > stated[name]:
            stated[name] = rounded_up(value)
    sets = [report["environment"]["instruction_sets"][0] for report in reports]
    own = Basis(**{**stated, "measured_on": tuple(sets)})
    entries = worst(entry for report in reports for entry in report["headroom"])
    places = dict[Key, list[str]]()
    for at, report in zip(sets, reports, strict=True):
        for entry in report["headroom"] if len(reports) > 1 else ():
            seen = "not finite" if entry["value"] is None else f"{entry['value']:.3g}"
            places.setdefault(_key(entry), []).append(f"{at} {seen}")
    # Runtimes need some figures that the checks of a run without them do not measure.
    asked = [key for part in FIGURES.values() for key in part] if recipe.verify.runtimes.run else []
    made = tolerances(entries, replace(recipe, basis=own), factor, places, asked)
    return "\n".join(["[tolerances]", *basis_lines(own), "", made])


def tolerances(
    entries: Sequence[dict[str, Any]],
    recipe: Recipe,
    factor: float,
    places: Mapping[Key, Sequence[str]] = MappingProxyType({}),
    asked: Sequence[tuple[str, str]] = (),
) -> str:
    """Return [tolerances.*] with these entries of a head-room, ready to be pasted over those of the recipe.

    Bounds that can be derived from the recipe's basis are, measured or not. The others are `factor` times the measured
    deviation: 1 gives the smallest that pass. Variants and figures that have no entry keep the recipe's, and so does a
    deviation of 0 when room is asked for. Each line says what the bound was, how much of it was used, and what was
    measured where. A figure that the recipe has no tolerance for gets an empty reason, which a recipe must not have: a
    person writes it. `asked` (check, figure) are stated without an entry too, where they can be derived.
    """
    measured = {_key(entry): entry for entry in worst(_bounding(entry, recipe) for entry in entries)}
    names = [(check, figure) for check, figures in recipe.tolerances.items() for figure in figures]
    derived, variants, lines = derive(recipe), recipe.files, []
    derivable = [key for key in asked if key in derived]
    for check, figure in dict.fromkeys([*names, *((check, figure) for check, figure, _ in measured), *derivable]):
        tolerance = recipe.tolerances.get(check, {}).get(figure, Tolerance("", {}))
        own, reason, bounds = derived.get((check, figure)), tolerance.reason, dict[str, float]()
        if own is not None:
            reason, bounds = own.reason(reason, variants), dict(own.bounds)
        lines += [f"[tolerances.{check}.{figure}]", f"reason = {toml_text(reason)}"]
        for variant in dict.fromkeys([*variants, *tolerance.limits]):
            key = check, figure, variant
            limit, entry = tolerance.limits.get(variant), measured.get(key)
            if limit is not None or entry is not None or variant in bounds:
                line = _line(variant, limit, entry, factor, bounds.get(variant))
                lines.append("; ".join([line, *places.get(key, ())]))
        lines.append("")
    return "\n".join(lines)


def _bounding(entry: dict[str, Any], recipe: Recipe) -> dict[str, Any]:
    """An entry of a graph in place as one of its variant, whose bounds hold for it where it has none of its own."""
    own = recipe.tolerances.get(entry["check"], {}).get(entry["measure"])
    stated = own is not None and entry["variant"] in own.limits
    return entry if stated else {**entry, "variant": base(entry["variant"])}


def _key(entry: Mapping[str, Any]) -> Key:
    return entry["check"], entry["measure"], entry["variant"]


def basis_lines(own: Basis) -> Iterator[str]:
    """Yield the lines of [tolerances] itself."""
    yield f"measured_on = [{', '.join(map(toml_text, own.measured_on))}]"
    for name in ("logits_range", "cache_range"):
        if getattr(own, name) is not None:
            yield f"{name} = {getattr(own, name)!r}"


def _line(
    variant: str, limit: Limit | None, entry: Mapping[str, Any] | None, factor: float, derived: float | None
) -> str:
    """One variant's limit: derived, or as measured, or the recipe's where nothing finite was."""
    if entry is None or entry["value"] is None:
        why = "not measured in this run" if entry is None else "not finite in this run: no tolerance would pass"
        if limit is None:
            if entry is None and derived is not None:
                return _limit(variant, "max", _stated(derived), "0", f"derived; {why}")
            return f"# {variant}: {why}"
        bound, why = (limit.bound, why) if derived is None else (derived, f"derived; {why}")
        return _limit(variant, SIDES[limit.upper], _stated(bound), _stated(limit.measured), why)
    value, upper = float(entry["value"]), entry["upper"]
    seen, state = _round(value, ROUND_HALF_EVEN), "" if entry["passed"] else ", FAILED"
    was = "had no bound" if limit is None else f"was {limit.bound:g}, {percent(entry['used'])} used{state}"
    if derived is not None:
        beyond = "derived, and EXCEEDED" if value > derived else "derived"
        return _limit(variant, SIDES[upper], _stated(derived), seen, f"{beyond}; {was}")
    deviation = value if upper else 1 - value
    if deviation == 0 and factor > 1 and limit is not None:  # no multiple of nothing leaves room for another processor
        return _limit(variant, SIDES[upper], _stated(limit.bound), seen, "kept")
    bound = max(factor * deviation if upper else 1 - factor * deviation, 0.0)
    return _limit(variant, SIDES[upper], _round(bound, ROUND_CEILING if upper else ROUND_FLOOR), seen, was)


def _limit(variant: str, side: str, bound: str, measured: str, about: str) -> str:
    return f"{variant} = {{ {side} = {bound}, measured = {measured} }} # {about}"


def _stated(value: float) -> str:
    return repr(int(value)) if value == int(value) else repr(value)


def _round(value: float, rounding: str) -> str:
    """A TOML number of DIGITS significant digits."""
    return f"{float(Decimal(value).normalize(Context(prec=DIGITS, rounding=rounding))):.{DIGITS}g}"
