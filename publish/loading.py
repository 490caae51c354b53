"""Say which releases load the published files, from what was measured on files of the same form (model/releases.py)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from model.form import digest_of, form_of
from model.releases import PROGRAMS, Table, measured, ranges
from pipeline.canonical import file_digest
from pipeline.command import say
from pipeline.variants import FILES, model_file
from publish.tree import Publishable, changed

UNKNOWN = "not measured"


@dataclass(frozen=True)
class Loading:
    """The programs by name, a row for each variant with a cell for each program, and what the newest releases were."""

    programs: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]
    newest: tuple[str, ...]
    dates: tuple[str, ...]


def loading(published: Publishable, tables: Iterable[Table]) -> Loading | None:
    """Return what is known of the published files; None when none of them has a form that was measured.

    Raises ArtifactError when a file is not the one that is published.
    """
    tables = tuple(tables)
    found = {name: measured(_form(published, name), tables) for name in FILES if name in published.variants}
    for name, known in found.items():
        if known is None:
            say(f"{name}: which releases load it was not measured; the card says so (make releases)")
    used = list(dict.fromkeys(known[0].name for known in found.values() if known is not None))
    if not used:
        return None
    entries = [entry for table in tables if table.name in used for entry in table.entries]
    programs = [name for name in PROGRAMS if any(entry.program == name for entry in entries)]
    rows = []
    for variant, known in found.items():
        own = {} if known is None else ranges(*known)
        rows.append((variant, tuple(str(own[name]) if name in own else UNKNOWN for name in programs)))
    newest = tuple([entry.release for entry in entries if entry.program == name][-1] for name in programs)
    dates = tuple(sorted({table.date for table in tables if table.name in used}))
    return Loading(tuple(PROGRAMS[name] for name in programs), tuple(rows), newest, dates)


def _form(published: Publishable, variant: str) -> str:
    """Return the digest of the form of a variant's file, which must be the one that is published."""
    path = published.home / variant / model_file(variant)
    listed = {entry.path: entry.sha256 for entry in published.files}
    if file_digest(path) != listed[model_file(variant)]:
        raise changed(path)
    return digest_of(form_of(path))
