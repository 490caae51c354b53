"""Tolerances: what a variant may deviate from the reference, why, and what was measured. Data only."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline import plugins
from pipeline.errors import RecipeError
from pipeline.typed import build, convert, did_you_mean

BASIS = ("measured_on", "logits_range", "cache_range")  # keys of [tolerances] beside the checks


@dataclass(frozen=True)
class Limit:
    """A bound on one figure for one variant, and the value measured when the bound was set."""

    bound: float
    upper: bool
    measured: float


@dataclass(frozen=True)
class Tolerance:
    """The limits of one figure, by variant, with the reason they are what they are."""

    reason: str
    limits: Mapping[str, Limit]


@dataclass(frozen=True)
class Basis:
    """State what limits rest on: where they were measured, and the size of the numbers that rounding errors scale with.

    `measured_on` names instruction sets (verify/processor.py); the ranges are of absolute values in the reference's
    logits and cache on the verification text. Recipes without them state nothing of this.
    """

    measured_on: tuple[str, ...] = ()
    logits_range: float | None = None
    cache_range: float | None = None


def read_basis(table: object, where: str) -> Basis:
    """The keys of [tolerances] itself; RecipeError for a range that no numbers have."""
    entries = convert(Mapping[str, Any], table, where=where)
    own = {name: value for name, value in entries.items() if name in BASIS}
    basis: Basis = build(Basis, own, where=where)
    for name in ("logits_range", "cache_range"):
        value = getattr(basis, name)
        if value is not None and value <= 0:
            hint = "write a number above 0, the largest absolute value that was measured"
            raise RecipeError(f"{value} is no range", where=f"{where}.{name}", hint=hint)
    return basis


def read_tolerances(table: object, variants: Collection[str], where: str) -> Mapping[str, Mapping[str, Tolerance]]:
    """Tolerances by check, then figure; RecipeError for a check or variant that does not exist, or no limit."""
    entries = convert(Mapping[str, Any], table, where=where)
    own = {name: value for name, value in entries.items() if name not in BASIS}
    checks = convert(Mapping[str, Mapping[str, Mapping[str, Any]]], own, where=where)
    for check in checks:
        plugins.require("verify/checks", check, where=where)
    return {
        check: {name: _tolerance(entry, variants, f"{where}.{check}.{name}") for name, entry in figures.items()}
        for check, figures in checks.items()
    }


def _tolerance(entry: Mapping[str, Any], variants: Collection[str], where: str) -> Tolerance:
    reason = entry.get("reason")
    if not isinstance(reason, str) or not reason.strip():
        raise RecipeError("a tolerance needs a reason", where=where, hint='add reason = "..."')
    limits = {}
    for variant, value in entry.items():
        if variant == "reason":
            continue
        if variant != "fp32" and variant not in variants:
            known = ["fp32", *variants]
            raise RecipeError(f"unknown variant {variant!r}", where=where, hint=did_you_mean(variant, known))
        limits[variant] = _limit(value, f"{where}.{variant}")
    return Tolerance(reason, limits)


def _limit(value: object, where: str) -> Limit:
    hint = "write { max = ..., measured = ... } or { min = ..., measured = ... }"
    if not isinstance(value, Mapping) or set(value) not in ({"max", "measured"}, {"min", "measured"}):
        raise RecipeError("not a limit", where=where, hint=hint)
    upper = "max" in value
    bound = convert(float, value["max" if upper else "min"], where=where)
    measured = convert(float, value["measured"], where=where)
    if bound < 0:
        raise RecipeError(f"negative tolerance {bound}", where=where, hint="write a number that is not negative")
    if (measured > bound) if upper else (measured < bound):
        hint = "write what `python -m verify RECIPE --tolerances` prints; widen nothing so that something passes"
        raise RecipeError(f"measured {measured} is outside the bound {bound}", where=where, hint=hint)
    return Limit(bound, upper, measured)
