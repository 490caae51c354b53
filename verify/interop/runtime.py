"""State what a runtime is: a program that loads the artifact, asked the same questions as the reference."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self, cast

from pipeline.recipe.runtimes import Extent
from verify.interop.lengths import within


class RuntimeFailure(Exception):  # noqa: N818  # an outcome of the candidate's, reported; no error of this program
    """The runtime raised, crashed, ran out of memory or time, or printed an error or warning that counts as one."""


# By configuration ("any" if there is one only: optimization level, threads), then by part; or why it has no answer.
Answers = Mapping[str, Mapping[str, Any] | RuntimeFailure]


@dataclass(frozen=True)
class Answered:
    """Ask nothing more of configurations whose further answers about a file nobody would read."""

    extent: Callable[[str], Extent]
    configurations: frozenset[str]

    @classmethod
    def of(cls, answers: Answers, extent: Callable[[str], Extent]) -> Self:
        """Leave out those that have failed, those that were not run, and those that read no prompts."""
        left = (name for name, parts in answers.items() if not isinstance(parts, RuntimeFailure))
        return cls(extent, frozenset(name for name in left if extent(name).longest))

    def __call__(self, configuration: str) -> Extent:
        """Return what a configuration is asked."""
        return self.extent(configuration) if configuration in self.configurations else Extent(0, 0, 0)

    @property
    def any(self) -> bool:
        """Return whether there is one that is asked."""
        return bool(self.configurations)


@dataclass(frozen=True)
class Bounds:
    """State what one runtime may take for one variant: seconds, and GiB of data of one process."""

    timeout_s: float
    memory_gb: float


@dataclass(frozen=True)
class Missing:
    """Name what is not there, and the command that makes it be there."""

    what: str
    command: str
    state: str = "is not installed"

    @property
    def reason(self) -> str:
        """In words, for the report."""
        return f"{self.what} {self.state}: {self.command}"


@dataclass(frozen=True)
class Task:
    """One variant of one repository (a directory in the Hub's layout), and the questions: plain values."""

    repository: Path
    variant: str
    questions: Mapping[str, Any]
    extent: Callable[[str], Extent]  # which of the texts and of the prompts a configuration is asked

    def lengths(self, configuration: str) -> list[Mapping[str, Any]]:
        """Return the questions of the part `lengths` that a configuration is asked."""
        return within(self.questions["lengths"], self.extent(configuration))

    def groups(self, configuration: str) -> Sequence[Mapping[str, Any]]:
        """Return the texts that a configuration continues."""
        groups: Sequence[Mapping[str, Any]] = self.questions["groups"]
        return groups[: self.extent(configuration).texts]


Ask = Callable[[Task], Answers]
Running = AbstractContextManager[Ask]


class Settings(Protocol):
    """A frozen dataclass, filled from the recipe's table `verify.runtimes.<runtime>`."""

    def check(self, where: str) -> None:
        """Raise RecipeError, before any work, for a value that cannot be."""


class Runtime(Protocol):
    """A module or package in verify/runtimes; its name is the runtime's in recipes and reports.

    Beside these it may have `absent(settings)`, where one configuration may lack what others have: those that lack
    something, each with what is not installed; and `configurations(settings)`, their names, which a recipe may require,
    with the settings `EVERY` that have all that are usual.
    """

    Settings: type[Settings]
    PARTS: tuple[str, ...]  # which of the questions it answers, each compared in verify/interop/comparator.py
    UNREADABLE: str | None  # a regular expression of characters that its interface cannot take: it answers None there

    IN_PLACE: bool  # whether it is asked about graphs in place too: it binds one buffer to past and present
    SLOW: bool  # whether it takes longer than the others together: it is asked first, so that they fit beside it

    def missing(self, settings: Any) -> Missing | None:
        """Return what is not installed, or None."""

    def unsupported(self, graph: Path, settings: Any) -> Mapping[str, str]:
        """Return its configurations that cannot run this ONNX file, each with the evidence."""

    def version(self, settings: Any) -> str:
        """Return the versions of everything that may change its answers, as text."""

    def running(self, settings: Any, bounds: Bounds) -> Running:
        """Return a context manager that gives a function from a `Task` to `Answers`."""


def load(name: str) -> Runtime:
    """Import a runtime that the recipe's reader has found to exist."""
    return cast("Runtime", importlib.import_module(f"verify.runtimes.{name}"))
