"""Measure how cost grows: one size varied at a time, on small random checkpoints."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.cost import pipeline
from benchmarks.cost.checkpoint import Factory
from benchmarks.cost.derived import derive
from benchmarks.cost.usage import Usage
from benchmarks.remote import Remote
from pipeline.recipe.recipe import Recipe

CHUNK = 256  # the embedded model's context
TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Size:
    """A piece of work: the model's layers and width, tokens of text, and variants judged beside fp32.

    Large enough that starting the programs, five seconds each, does not hide the rest.
    """

    layers: int = 8
    width: int = 256
    tokens: int = 16384
    variants: int = 1


@dataclass(frozen=True)
class Point:
    """State what one size costs. `varied` names the field that was varied."""

    varied: str
    size: Size
    convert: Usage
    verify: Usage


VARIED = {
    "layers": (4, 8, 16, 32),
    "width": (128, 256, 512, 1024),
    "tokens": (4096, 16384, 32768, 65536),
    "variants": (0, 1, 3, 7),
}


def plan() -> list[tuple[str, Size]]:
    """Every size, with the field that it varies."""
    return [(field, replace(Size(), **{field: value})) for field, values in VARIED.items() for value in values]


def measure(recipe: Recipe, beside: Path, logs: Path) -> Iterator[Point]:
    """Measure every size once, yielding each when it is done. `recipe` is the embedded model's."""
    with Remote(logs / "growth-checkpoint.txt", Factory) as factory:
        for field, size in plan():
            with tempfile.TemporaryDirectory(dir=beside) as scratch:
                yield _point(recipe, field, size, factory, Path(scratch), logs / "growth.txt")


def _point(recipe: Recipe, field: str, size: Size, factory: Remote, scratch: Path, log: Path) -> Point:  # noqa: PLR0913, PLR0917  # the place is two more
    checkpoint, build = scratch / "checkpoint", scratch / "build"
    factory.call("make", checkpoint, size.layers, size.width, timeout_s=TIMEOUT_S)
    path = derive(recipe, scratch, chunk=CHUNK, chunks=size.tokens // CHUNK, expect=False)
    converted = pipeline.convert(path, checkpoint, build, log)
    variants = list(recipe.variants)[: size.variants]
    if variants:
        pipeline.quantize(path, build, log, variants)
    return Point(field, size, converted, pipeline.verify(path, build, log, ["fp32", *variants]))
