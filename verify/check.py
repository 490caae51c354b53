"""State what a check is, and what it is made of: cases, partial results, measures."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

import numpy as np

from pipeline import plugins
from pipeline.canonical import canonical_json, read_json

if TYPE_CHECKING:  # torch takes seconds to load
    from verify.candidate.input import Input
    from verify.candidate.session import Candidate
    from verify.reference.corpus import Corpus
    from verify.reference.model import Reference

Array = np.ndarray[Any, np.dtype[Any]]
Partial = dict[str, Any]
# Numbers compared at a time: temporaries of a whole context would be got from the system anew each time.
PIECE = 1 << 20
FEWEST = 100  # elements, of which fewer say little about a mean or a share


@dataclass(frozen=True)
class Case:
    """One piece of work: what to feed, what the reference answered. `arrays` may be memory-mapped, read-only."""

    name: str
    arrays: Mapping[str, Array] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def save(self, directory: Path) -> None:
        """Write the case for another process to map."""
        directory.mkdir()
        for name, array in self.arrays.items():
            np.save(directory / f"{name}.npy", array, allow_pickle=False)
        (directory / "case.json").write_bytes(canonical_json({"name": self.name, "facts": self.facts}))

    @staticmethod
    def load(directory: Path) -> Case:
        """Map a saved case."""
        table = read_json(directory / "case.json")
        arrays = {p.stem: np.load(p, mmap_mode="r", allow_pickle=False) for p in directory.glob("*.npy")}
        return Case(table["name"], arrays, table["facts"])


class NotApplicable(Exception):  # noqa: N818  # no error: the check has nothing to say about such a file
    """Raised by `judge` where a check does not apply to a candidate; the report lists it as not run."""


@dataclass(frozen=True)
class Measure:
    """One figure of one check for one candidate.

    `fixed` is the bound of a figure that has no tolerance (a count of violations: 0); other figures take their bound
    from the recipe. `compared` is the number of elements behind the value: zero compared is a failure, always.
    """

    name: str
    value: float
    compared: int
    unit: str = ""
    fixed: float | None = None
    error: float | None = None  # standard error of the value, where it is an average over a sample
    detail: str = ""
    judged: bool = True  # False: shown for information, no bound


class Settings(Protocol):
    """A frozen dataclass, filled from the recipe's table `verify.<check>`."""

    def check(self, where: str, context: int) -> None:
        """Raise RecipeError, before any work, for a value that cannot be with a context of so many tokens."""


# What a check looks at: the graph; the graph beside each of the reference's PyTorch modules; the files beside it, and
# nothing else; the graph beside the variant that the recipe makes, so that there is nothing to ask of that variant
# itself. Plain words: publish reads them without importing.
Judges = Literal["graph", "modules", "files", "twin"]


class Ease(IntEnum):
    """Rank how much a failed measure says about the node at fault: the first is explained first."""

    PASS = 0  # the largest error of one pass
    CALLS = 1  # of calls that hand on a cache
    ROWS = 2  # of rows, or of positions asked for alone
    MEAN = 3  # an average over thousands of tokens
    TIES = 4  # choices that logits leave open
    TEXT = 5  # texts made of such choices


@dataclass(frozen=True)
class Explaining:
    """State how a failed measure of a check is traced to a node: by the check itself, on smaller and smaller inputs."""

    measures: Mapping[str, Ease]  # in the order of explanation where the ease is the same
    inputs: Callable[[Case], Iterable[tuple[str, Input]]]  # what a case feeds, each with its name's ending
    case: Callable[[Reference, Input], Case] | None = None  # the case of one input; None: a check of `by` makes it
    by: tuple[str, ...] = ()  # the first of these checks that the recipe has tolerances for
    shortest: int = 1  # tokens, of which an input cannot have fewer
    keeps: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # by measure: numbers of last positions to try


@dataclass(frozen=True)
class Prompt:
    """A prompt of the user's own: where it stands in its file ("line 3"), and its tokens, int64 [length]."""

    name: str
    ids: Array


@dataclass(frozen=True)
class Prompting:
    """State how a check is asked about the user's own prompts, apart from the recipe's text, with the same bounds."""

    cases: Callable[[Reference, Sequence[Prompt], Any], Iterator[Case]]  # one each, with the prompt's name
    summarize: Callable[[list[Partial], dict[str, float], Reference], list[Measure]]
    figures: tuple[str, ...]  # those that hold for every text
    averages: tuple[str, ...] = ()  # means and shares, which need FEWEST elements, and have a statistical error


class Check(Protocol):
    """A module in verify/checks; its name is the check's in recipes and reports.

    Beside these it may have `series(partials, observed, reference)`: plain values for the report's plots and texts,
    which are shown and never judged.
    """

    Settings: type[Settings]
    NEEDS: tuple[str, ...]  # the checks whose measures it uses; they run first
    PER_LEVEL: bool  # whether it runs at every optimization level, or once per file
    TOLERATED: Mapping[str, str]  # measures that the recipe must bound, each "max" or "min"; others count violations
    JUDGES: Judges
    SEEDED: bool  # whether the pieces of the text that it feeds depend on the recipe's seed
    BRIEF: Mapping[str, Any]  # settings that cut its work short where hundreds of planted faults are judged
    EXPLAINING: Explaining | None  # None: its measures name what is wrong, or no node is to be found
    PROMPTING: Prompting | None  # None: it has nothing to ask about a prompt

    def cases(self, reference: Reference, corpus: Corpus, settings: Any) -> Iterator[Case]:
        """Yield cases. Runs PyTorch, in the parent process, once for all candidates."""

    def judge(self, candidate: Candidate, case: Case) -> Partial:
        """Run one case in the candidate's process and return plain values and arrays.

        Raises NotApplicable for a file that it has nothing to say about.
        """

    def summarize(
        self, partials: Sequence[Partial], observed: Mapping[str, float], reference: Reference
    ) -> list[Measure]:
        """Return the measures that all of a candidate's partial results amount to."""


def load(name: str) -> Check:
    """Import a check that the recipe's reader has found to exist; a dotted name is any module with a `judge`."""
    return cast("Check", importlib.import_module(name if "." in name else f"verify.checks.{name}"))


def judging(what: Judges) -> tuple[str, ...]:
    """Return the names of the checks that look at this, of all that there are."""
    return tuple(name for name in plugins.names("verify/checks") if what == load(name).JUDGES)


def largest_by_row(a: Array, b: Array) -> Array:
    """Max |a - b| of each row, float32 [rows] for [rows, n]; infinity where a row holds NaN or infinity."""
    if a.shape != b.shape:
        raise ValueError(f"shapes {a.shape} and {b.shape} differ")
    rows: Array = np.abs(a - b).max(axis=-1)
    return np.where(np.isfinite(rows), rows, np.float32(np.inf))


def largest(a: Array, b: Array) -> float:
    """Max |a - b|; infinity when either holds NaN or infinity, so that nothing non-finite compares as equal."""
    if a.shape != b.shape:
        raise ValueError(f"shapes {a.shape} and {b.shape} differ")
    if a.size == 0:
        return 0.0
    a, b = np.atleast_1d(a), np.atleast_1d(b)
    step = max(PIECE * len(a) // a.size, 1)
    pieces = [np.abs(a[at : at + step] - b[at : at + step]).max() for at in range(0, len(a), step)]
    difference = float(np.max(pieces))  # as numpy's, not Python's: NaN anywhere is NaN
    return difference if np.isfinite(difference) else float("inf")


def standard_error(values: Array) -> float:
    """Return the standard error of the mean of independent values; 0 for fewer than two."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
