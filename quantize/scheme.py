"""What a scheme's module offers, and the checks that schemes share for their options."""

from __future__ import annotations

import importlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

import onnx_ir as ir

from artifact import registry
from artifact.errors import RecipeError
from artifact.signature import Dimensions
from artifact.typed import build

FOLDER = "quantize/schemes"
BLOCKS = (16, 32, 64, 128, 256)  # what MatMulNBits, MatMulBnb4 and GatherBlockQuantized all have CPU kernels for


class Options(Protocol):
    """A frozen dataclass of a scheme's settings."""

    def check(self, where: str) -> None:
        """Raise RecipeError when a value has the right type but cannot be."""


class Scheme(Protocol):
    """A module in `quantize/schemes`."""

    Options: type[Options]

    def apply(self, model: ir.Model, options: Any, dims: Dimensions) -> None:
        """Change the model in place."""


@dataclass(frozen=True)
class Step:
    """One step of a variant, its options read and checked."""

    scheme: Scheme
    options: Options

    def apply(self, model: ir.Model, dims: Dimensions) -> None:
        """Change the model in place."""
        self.scheme.apply(model, self.options, dims)


def read_step(table: Mapping[str, Any], where: str) -> Step:
    """A step from its table in the recipe; RecipeError for an unknown scheme, key, type or value."""
    name = registry.require(FOLDER, str(table["scheme"]), where=where)
    scheme = cast(Scheme, importlib.import_module(f"{FOLDER.replace('/', '.')}.{name}"))
    options = build(scheme.Options, {key: value for key, value in table.items() if key != "scheme"}, where=where)
    options.check(where)
    return Step(scheme, options)


def check_choice(name: str, value: int, allowed: Collection[int], where: str) -> None:
    """Raise RecipeError unless the value is one of those allowed."""
    if value not in allowed:
        listed = ", ".join(map(str, allowed))
        raise RecipeError(f"{value} is not possible", where=f"{where}: {name}", hint=f"write one of {listed}")
