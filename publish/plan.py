"""Plan what a publication would change: the tree here against the one on the Hub, file by file, by digest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.canonical import file_digest
from publish.tree import known

ATTRIBUTES = ".gitattributes"  # the Hub's own: which files are large


@dataclass(frozen=True)
class LocalFile:
    """A file to publish: where it is, its size in bytes, its SHA-256, and the id git would give it."""

    place: Path
    size: int
    sha256: str
    blob: str


@dataclass(frozen=True)
class HubFile:
    """A file on the Hub: its size in bytes, its SHA-256 if it is a large file, else git's id of it."""

    size: int
    sha256: str | None
    blob: str | None


@dataclass(frozen=True)
class Changes:
    """Paths by what happens to them; `foreign` are files on the Hub that nobody here knows. Each sorted."""

    add: tuple[str, ...]
    replace: tuple[str, ...]
    delete: tuple[str, ...]
    unchanged: tuple[str, ...]
    foreign: tuple[str, ...]

    @property
    def empty(self) -> bool:
        """Return whether there is nothing to do."""
        return not (self.add or self.replace or self.delete)


def local(place: Path) -> LocalFile:
    """A file of the tree, hashed both ways."""
    size = place.stat().st_size
    blob = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with place.open("rb") as stream:
        while chunk := stream.read(2**20):
            blob.update(chunk)
    return LocalFile(place, size, file_digest(place), blob.hexdigest())


def same(here: LocalFile, there: HubFile) -> bool:
    """Return whether both are the same bytes."""
    equal = there.sha256 == here.sha256 if there.sha256 is not None else there.blob == here.blob
    return equal and there.size == here.size


def make(here: Mapping[str, LocalFile], there: Mapping[str, HubFile]) -> Changes:
    """The plan that turns `there` into `here`."""
    others = sorted(there.keys() - here.keys() - {ATTRIBUTES})
    both = sorted(here.keys() & there.keys())
    return Changes(
        add=tuple(sorted(here.keys() - there.keys())),
        replace=tuple(path for path in both if not same(here[path], there[path])),
        delete=tuple(path for path in others if known(path)),
        unchanged=tuple(path for path in both if same(here[path], there[path])),
        foreign=tuple(path for path in others if not known(path)),
    )


def size(here: Mapping[str, LocalFile], paths: Iterable[str]) -> int:
    """Bytes of some of the files."""
    return sum(here[path].size for path in paths)
