"""State what a fault is, and how a family's file declares one."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx

from model.architecture import Architecture
from model.contract import Dimensions
from model.landmarks import Landmarks
from pipeline import plugins
from pipeline.variants import in_place

FOLDER = "verify/faults/families"
VARIANTS = ("fp32", "fp16", "q8", "q4")
IN_PLACE = (in_place("fp32"), in_place("q4"))  # their graphs with a cache in place, which have faults of their own
EVERY = "every"  # of Fault.runtime: each runtime must catch it, besides the checks
GRAPH, FILES, BUILD = "graph", "files", "build"  # where a fault is planted
Role = Callable[[Landmarks], str | None]  # what a part of the model is called; None where the model has no such part


class InapplicableError(Exception):
    """The graph has nothing that the fault could be planted in, such as zero points where all grids are symmetric."""


@dataclass(frozen=True)
class Subject:
    """Hold what a fault is planted in: a copy, and what there is to know about it.

    `files` is the directory of the copied artifact, or for faults in the lineage the copied build/<name>.
    """

    variant: str
    model: onnx.ModelProto
    files: Path
    dims: Dimensions
    own: Architecture
    at: Landmarks
    unseen: tuple[int, ...] = ()  # tokens that the verification text does not hold
    clean: Path = Path()  # build/<name>, with the variants as they were made


@dataclass(frozen=True)
class Fault:
    """One fault of the catalogue. `node` is the node or the value that it makes wrong, where there is one.

    `magnitude` is the default one of a graded fault, None for a fault that is either there or not. `runtime` is
    EVERY if every runtime of the recipe must catch it beside the checks, or the name of the one that alone computes the
    graph wrongly, so that this runtime must catch it: checks run elsewhere.
    """

    name: str
    family: str
    what: str
    place: str
    variants: tuple[str, ...]
    node: str | Role | None = field(repr=False)
    magnitude: float | None
    change: Callable[..., None] = field(repr=False)
    runtime: str | None = None

    def named(self, at: Landmarks) -> str | None:
        """Return the node's name in a model."""
        return self.node(at) if callable(self.node) else self.node

    def plant(self, subject: Subject, magnitude: float | None = None) -> None:
        """Change the subject in place. Raises InapplicableError where there is nothing to change."""
        if self.magnitude is None:
            self.change(subject)
        else:
            self.change(subject, self.magnitude if magnitude is None else magnitude)


_CATALOGUE: dict[str, Fault] = {}


def fault(
    *,
    node: str | Role | None = None,
    place: str = GRAPH,
    variants: tuple[str, ...] = VARIANTS,
    magnitude: float | None = None,
    runtime: str | None = None,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Declare the decorated function a fault. Its first docstring line says what the fault does."""

    def declare(change: Callable[..., None]) -> Callable[..., None]:
        name, family = str(change.__name__), change.__module__.rpartition(".")[2]
        what = str(change.__doc__).splitlines()[0]
        _CATALOGUE[name] = Fault(name, family, what, place, variants, node, magnitude, change, runtime)
        return change

    return declare


def catalogue() -> dict[str, Fault]:
    """All faults by name, in the order of their families' files."""
    for name in plugins.names(FOLDER):
        importlib.import_module(f"{FOLDER.replace('/', '.')}.{name}")
    return dict(sorted(_CATALOGUE.items(), key=lambda item: item[1].family))


def about(entry: Fault, at: Landmarks) -> dict[str, Any]:
    """Return the fault's description in a model as plain data."""
    names = ("name", "family", "what", "place", "magnitude", "runtime")
    return {**{name: getattr(entry, name) for name in names}, "node": entry.named(at)}
