"""Say which releases of the programs that load it a file was run in: docs/releases, which `benchmarks.releases` writes.

What was measured on one file holds for every file of its form (model/form.py), so a model card may say it of files that
were made later. A form that was not measured has no entry, and nothing is said about it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.canonical import read_json
from pipeline.errors import InputError
from pipeline.plugins import ROOT
from pipeline.typed import build

FOLDER = ROOT / "docs" / "releases"
# The programs, by the names that entries have: what a reader calls them.
PROGRAMS = {
    "python": "onnxruntime",
    "node": "Transformers.js in Node",
    "wasm": "Transformers.js' WebAssembly",
    "plain wasm": "its build for old Safari",
}
RIGHT, DIFFERS, FAILS, REFUSED = "right", "differs", "fails", "refused"


@dataclass(frozen=True)
class ReleasedFile:
    """One file in one program of one release.

    `differs` loads and answers, but beyond the tolerances: `error` is the largest of its logits and `wrong` names the
    questions; `fails` loads and cannot answer one; `refused` does not load. `message` is what the program said.
    """

    release: str  # such as "1.21.0"; of Transformers.js for all programs but "python"
    program: str
    engine: str  # what computes, such as "onnxruntime-node 1.21.0"
    variant: str
    verdict: str
    error: float | None = None
    allowed: float | None = None
    wrong: tuple[str, ...] = ()
    message: str = ""


@dataclass(frozen=True)
class File:
    """State what was run: the digest of its form, the form, and the file's SHA-256."""

    form: str
    lines: tuple[str, ...]
    sha256: str


@dataclass(frozen=True)
class Table:
    """One recipe's run: when, by which command, on which files; entries in the order of their releases."""

    name: str
    date: str
    command: str
    processor: str
    files: Mapping[str, File]  # by variant
    entries: tuple[ReleasedFile, ...]


@dataclass(frozen=True)
class Range:
    """The releases of one program that a file is right in: from `since` on (None: in none), but for some.

    `oldest` says that `since` is the oldest release that was run, so that older ones may be right too.
    """

    since: str | None
    oldest: bool
    but: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.since is None:
            return "none"
        return f"{self.since} or later" + (f", not {' or '.join(self.but)}" if self.but else "")


def read(folder: Path = FOLDER) -> tuple[Table, ...]:
    """Return what was measured and is kept; InputError for a file of another form."""
    return tuple(
        build(Table, read_json(path), where=str(path), error=InputError) for path in sorted(folder.glob("*.json"))
    )


def measured(form: str, tables: Iterable[Table]) -> tuple[Table, str] | None:
    """Return the table, and the variant in it, whose file has this form; None if none has."""
    for table in tables:
        for variant, file in table.files.items():
            if file.form == form:
                return table, variant
    return None


def range_of(entries: Sequence[ReleasedFile]) -> Range:
    """Return the range of one file in one program, of its entries in the order of releases.

    It begins with the first right one after the last that does not load or run; from there on, those that differ are
    named.
    """
    verdicts = [entry.verdict for entry in entries]
    unable = [place for place, verdict in enumerate(verdicts) if verdict in {REFUSED, FAILS}]
    begin = unable[-1] + 1 if unable else 0
    right = [place for place in range(begin, len(entries)) if verdicts[place] == RIGHT]
    if not right:
        return Range(None, oldest=False)
    but = tuple(entry.release for entry in entries[right[0] :] if entry.verdict != RIGHT)
    return Range(entries[right[0]].release, right[0] == 0, but)


def ranges(table: Table, variant: str) -> dict[str, Range]:
    """Return a variant's range in each program that it was run in."""
    programs = dict.fromkeys(entry.program for entry in table.entries if entry.variant == variant)
    return {
        program: range_of([e for e in table.entries if (e.program, e.variant) == (program, variant)])
        for program in programs
    }
