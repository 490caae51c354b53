"""State what a scheme's module offers, and hold the checks that schemes share for their options."""

from __future__ import annotations

import importlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

import onnx_ir as ir

from model.contract import Dimensions
from pipeline import plugins
from pipeline.errors import RecipeError
from pipeline.typed import build
from quantize.calibration import Calibration
from quantize.numerics.blocks import Blocks

FOLDER = "quantize/schemes"
PLAN = "plan"  # among the facts of a context and of a model: what a search found


@dataclass
class Context:
    """Hold what a step may need beyond the graph that it changes, and what it has to say for the artifact."""

    dims: Dimensions
    graph: Path  # the fp32 graph, unchanged by earlier steps
    calibration: Calibration | None  # None when the recipe has no [calibration]
    work: Path  # directory for measurements that a later run continues from
    external_data_above: int  # bytes of weights beyond which they lie beside the graph
    in_place: tuple[str, ...] = ()  # variants that get a second graph, whose cache may stay in place
    facts: dict[str, Any] = field(default_factory=dict)  # for the manifest
    solved: dict[tuple[Any, ...], Blocks] = field(
        default_factory=dict
    )  # of weights, for variants that ask for the same

    def calibrated(self, scheme: str) -> Calibration:
        """The calibration; RecipeError when the recipe has none."""
        if self.calibration is None:
            raise text_needed(scheme, "calibration")
        return self.calibration


def text_needed(scheme: str, where: str) -> RecipeError:
    """Return the refusal of a scheme that does nothing without calibration text."""
    hint = 'add [calibration] with text = "..." (a UTF-8 file, relative to the recipe)'
    return RecipeError(f"{scheme} needs calibration text", where=where, hint=hint)


def needs_text(scheme: object) -> bool:
    """Return whether a scheme's module does nothing without calibration text."""
    return bool(getattr(scheme, "NEEDS_TEXT", False))


class Options(Protocol):
    """A frozen dataclass of a scheme's settings."""

    def check(self, where: str) -> None:
        """Raise RecipeError when a value has the right type but cannot be."""


class Scheme(Protocol):
    """A module in `quantize/schemes`. With `NEEDS_TEXT = True` it does nothing without calibration text."""

    CALIBRATED: bool  # whether it can use calibration; a literal: pipeline.recipe reads it without importing
    Options: type[Options]

    def apply(self, model: ir.Model, options: Any, context: Context) -> None:
        """Change the model in place."""


@dataclass(frozen=True)
class Step:
    """One step of a variant, its options read and checked."""

    scheme: Scheme
    options: Options

    def apply(self, model: ir.Model, context: Context) -> None:
        """Change the model in place."""
        self.scheme.apply(model, self.options, context)


def read_step(table: Mapping[str, Any], where: str) -> Step:
    """A step from its table in the recipe; RecipeError for an unknown scheme, key, type or value."""
    scheme = module(plugins.require(FOLDER, str(table["scheme"]), where=where))
    options = build(scheme.Options, {key: value for key, value in table.items() if key != "scheme"}, where=where)
    options.check(where)
    return Step(scheme, options)


def module(name: str) -> Scheme:
    """The scheme's module; its name must be known to exist."""
    return cast(Scheme, importlib.import_module(f"{FOLDER.replace('/', '.')}.{name}"))


def check_choice(name: str, value: int, allowed: Collection[int], where: str) -> None:
    """Raise RecipeError unless the value is one of those allowed."""
    if value not in allowed:
        listed = ", ".join(map(str, allowed))
        raise RecipeError(f"{value} is not possible", where=f"{where}: {name}", hint=f"write one of {listed}")
