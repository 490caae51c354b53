"""State what an engine is: a package in benchmarks/engines that is an `Engine`, and whose session gives a `Runner`."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from model import architecture
from model.checkpoint import read_config
from model.contract import Dimensions
from pipeline.artifact.store import open_artifact
from pipeline.command import invocation
from pipeline.errors import ArtifactError, RecipeError
from pipeline.recipe.recipe import Recipe
from pipeline.typed import build as typed
from pipeline.typed import did_you_mean

Array = np.ndarray[Any, np.dtype[Any]]
FOLDER = "benchmarks/engines"


@dataclass(frozen=True)
class Site:
    """The build directory of one recipe, and the source's identity, which decides whether prepared files are stale."""

    home: Path
    digest: str
    dims: Dimensions
    recipe: Path
    tables: int  # numbers in the tables of tokens and positions, the head's included

    @property
    def source(self) -> Path:
        """The checkpoint that every engine's files are made from."""
        return self.home / "source"

    @property
    def directory(self) -> Path:
        """Return the directory of the benchmark's own files."""
        return self.home / "benchmarks"


@dataclass(frozen=True)
class FileSizes:
    """A configuration's files: `size` bytes on disk, `read` bytes of weights that one decoded token has to read."""

    path: Path
    size: int
    read: int


class Engine(Protocol):
    """A package in benchmarks/engines; its folder's name is the engine's.

    Where its files must be made first, its module `prepare` makes them (benchmarks/prepared.py).
    """

    SESSION: str  # the module that runs its files, with `load(path, name, threads) -> Runner`
    CACHE_WIDTH: int  # bytes of one number in its cache, for the bytes that a decoded token reads

    def names(self, site: Site) -> tuple[str, ...]:
        """Return its configurations in the order shown, such as "fp32" or "Q8_0"."""

    def requires(self, name: str) -> tuple[str, ...]:
        """Return the distributions, beyond the project's own, without which a configuration is absent."""

    def place(self, site: Site, name: str) -> FileSizes:
        """Return where a configuration's files are, made first if need be."""


class Runner(Protocol):
    """One engine with one model loaded. Every method that times returns seconds, and says what they include."""

    def prefill(self, ids: Array, *, every: bool) -> float:
        """Seconds of one pass over int64 ids [batch, length] from an empty cache, logits ready in memory."""

    def decode(self, prompt: Array, batch: int, steps: int) -> float:
        """Seconds of `steps` greedy steps of one token for each of `batch` rows that continue int64 prompt [length].

        The prompt's own pass is not included. A step is: forward, logits, argmax, cache grown by one.
        """

    def logits(self, ids: Array) -> Array:
        """Logits float32 [length, vocabulary] of int64 ids [length], run alone from an empty cache."""

    def rest(self) -> None:
        """Give back memory that the last task needed, so that all engines can wait in memory together."""


def open_site(recipe: Recipe, build: Path) -> Site:
    """The recipe's place in a build directory, with a directory for the benchmark's own files; ArtifactError."""
    home = build / recipe.name
    source = open_artifact(home / "source", made_by=invocation("convert", recipe.path, build))
    where = f"{source.path}: facts"
    dims = typed(Dimensions, source.manifest.facts.get("dimensions"), where=where, error=ArtifactError)
    site = Site(home, source.digest, dims, recipe.path, _tables(recipe, source.path))
    site.directory.mkdir(exist_ok=True)
    return site


def _tables(recipe: Recipe, source: Path) -> int:
    own, config = architecture.find(recipe.architecture), read_config(source / "config.json")
    at, shapes = own.landmarks.landmarks(config), own.config.tensors(config)
    names = {f"{module}.weight" for module in (at.embedding, at.head, at.positions)}
    return sum(math.prod(shape) for name, shape in shapes.items() if name in names)


def choose(known: Sequence[tuple[str, str]], only: Sequence[str] | None) -> list[tuple[str, str]]:
    """The (engine, configuration) pairs that `only` names, by engine or by both; all of them without it."""
    if only is None:
        return list(known)
    keys = {name for name, _ in known} | {f"{name}/{one}" for name, one in known}
    for name in only:
        if name not in keys:
            raise RecipeError(f"unknown engine {name!r}", where="--only", hint=did_you_mean(name, keys))
    return [(name, one) for name, one in known if name in only or f"{name}/{one}" in only]


def load(name: str) -> Engine:
    """Import an engine that the command line's reader has found to exist."""
    return cast("Engine", importlib.import_module(f"benchmarks.engines.{name}"))


def missing(distributions: Sequence[str]) -> list[str]:
    """Those of the distributions that are not installed."""
    return [name for name in distributions if installed(name) is None]


def installed(distribution: str) -> str | None:
    """Version of an installed distribution, or None."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
