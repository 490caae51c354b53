"""The recipe's variants: the steps that make each, and which of them get a graph in place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline import plugins
from pipeline.canonical import digest
from pipeline.errors import RecipeError
from pipeline.typed import convert, did_you_mean
from pipeline.variants import FILES

SCHEMES = "quantize/schemes"


@dataclass(frozen=True)
class Variant:
    """Quantization steps applied in order; each is a table with `scheme` and that scheme's options."""

    steps: tuple[Mapping[str, Any], ...]


def calibrated(steps: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether a scheme named anywhere in the steps says that it can use calibration."""
    schemes = set(_texts(steps)).intersection(plugins.names(SCHEMES))
    return any(plugins.constant(SCHEMES, name, "CALIBRATED", bool) for name in sorted(schemes))


def _texts(value: object) -> Iterator[str]:
    """Every text in nested tables and lists: a scheme may be named by a step, an override or a list of candidates."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def read_variants(table: object, where: str) -> Mapping[str, Variant]:
    """The variants by name; RecipeError for one that does not exist, has no steps, or a step that cannot be."""
    variants: Mapping[str, Variant] = convert(Mapping[str, Variant], table, where=where)
    for name, variant in variants.items():
        if name not in FILES or name == "fp32":
            known = [key for key in FILES if key != "fp32"]
            raise RecipeError(f"{name!r} is not a variant", where=where, hint=did_you_mean(name, known))
        if not variant.steps:
            raise RecipeError("no steps", where=f"{where}.{name}", hint='add steps = [{ scheme = "..." }]')
        for i, step in enumerate(variant.steps):
            at = f"{where}.{name}.steps[{i}]"
            if not isinstance(step, Mapping) or not isinstance(step.get("scheme"), str):
                raise RecipeError("a step needs a scheme", where=at, hint='write { scheme = "...", ... }')
            plugins.require(SCHEMES, step["scheme"], where=at)
            _check_digestible(step, at)
    return variants


def _check_digestible(step: Mapping[str, Any], where: str) -> None:
    """RecipeError for what TOML has and JSON, by which variants are told apart, has not: dates, NaN, infinity."""
    for key, value in step.items():
        try:
            digest(value)
        except (TypeError, ValueError) as error:
            hint = "write a finite number, a text, true, false, a list or a table"
            raise RecipeError(f"{value!r} is no option's value", where=f"{where}: {key}", hint=hint) from error


def read_in_place(names: object, variants: Sequence[str], where: str) -> tuple[str, ...]:
    """The variants that get a graph in place, in the order of `variants`; RecipeError for another name."""
    named: tuple[str, ...] = convert(tuple[str, ...], names, where=where)
    for name in named:
        if name not in variants:
            raise RecipeError(f"{name!r} is not made by this recipe", where=where, hint=did_you_mean(name, variants))
    return tuple(name for name in variants if name in named)
