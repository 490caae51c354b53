"""Ask every instruction set in turn, in every round, for every form's product."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.products.measure import FORMS, ProductForm, ProductSessions
from benchmarks.progress import progress
from benchmarks.remote import Remote, settle
from benchmarks.report import table
from benchmarks.schedule import Spread, spread, turns
from verify.sandbox.spawned import Python

ANSWER_S = 300.0
ROWS = (1, 128)  # a decode step's and a prompt's


@dataclass(frozen=True)
class Shape:
    """A weight that takes `k` numbers to `n`."""

    k: int
    n: int

    @property
    def shown(self) -> str:
        """Its name in a table."""
        return f"{self.k} x {self.n}"


@dataclass(frozen=True)
class ProductEntry:
    """One form of one shape on one processor: seconds of a product by rows; whether rows have the same bits alone."""

    seconds: Mapping[int, Spread]
    alone: bool


Found = Mapping[tuple[Shape, ProductForm, str], ProductEntry]


def measure(
    shapes: Sequence[Shape], pythons: Mapping[str, Python | None], rounds: int, threads: int, log: Path
) -> Found:
    """Measure FORMS of each shape, by instruction set: each in a process of its own, in turns; RemoteError."""
    found: dict[tuple[Shape, ProductForm, str], ProductEntry] = {}
    with ExitStack() as stack:
        remotes = {
            name: stack.enter_context(Remote(log.with_suffix(f".{name}.txt"), ProductSessions, threads, python=python))
            for name, python in pythons.items()
        }
        for shape in shapes:
            for remote in remotes.values():
                remote.call("open", shape.k, shape.n, FORMS, timeout_s=ANSWER_S)
            samples: dict[tuple[ProductForm, str, int], list[float]] = {}
            for number in progress(shape.shown, range(rounds)):
                for form in turns(FORMS, number):
                    for name in turns(tuple(remotes), number):
                        settle(remote.pid for remote in remotes.values())
                        for rows in ROWS:
                            seconds = remotes[name].call("seconds", form, rows, timeout_s=ANSWER_S)
                            samples.setdefault((form, name, rows), []).append(seconds)
            for form in FORMS:
                for name, remote in remotes.items():
                    seconds = {rows: spread(samples[form, name, rows]) for rows in ROWS}
                    alone = remote.call("alone", form, timeout_s=ANSWER_S)
                    found[shape, form, name] = ProductEntry(seconds, alone)
    return found


def markdown(found: Found) -> str:
    """Return a table for each shape: microseconds of one row, and of each row of a prompt's."""
    names = list(dict.fromkeys(name for _, _, name in found))
    lines: list[str] = []
    for shape in dict.fromkeys(shape for shape, _, _ in found):
        rows = [[form.shown, *(_cell(found[shape, form, name]) for name in names)] for form in FORMS]
        lines += [f"## {shape.shown}", "", *table((f"bits/block: µs of 1 row; of each of {ROWS[1]}", *names), rows), ""]
    return "\n".join(lines)


def _cell(entry: ProductEntry) -> str:
    one, many = (1e6 * entry.seconds[rows].median / rows for rows in ROWS)
    return f"{one:.1f}; {many:.1f}{'' if entry.alone else ' (depends on its batch)'}"
