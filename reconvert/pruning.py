"""Keep what old artifacts and logs take within a bound: the oldest go first, what is still needed never."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.command import say
from pipeline.errors import ArtifactError
from reconvert.folder import PART, Folder
from reconvert.state import State, read_state

DIGITS = 12  # of a key in a name
STAMPED = re.compile(rf"\d{{8}}T\d{{6}}Z-[0-9a-f]{{{DIGITS}}}(-|$)")  # how `stamped` begins a name


@dataclass(frozen=True)
class Removable:
    """A log or a kept folder. `name` begins with its time, so names sort by age."""

    path: Path
    bytes: int
    pinned: bool


def stamped(time: str, key: str) -> str:
    """Return how the names of a run's logs and kept folders begin."""
    return f"{time}-{key[:DIGITS]}"


def doomed(items: Sequence[Removable], bound: int) -> list[Removable]:
    """Choose what must go for the rest to take at most `bound` bytes: the oldest that is not pinned, then the next."""
    total = sum(item.bytes for item in items)
    chosen = []
    for item in sorted(items, key=lambda item: (item.path.name, item.path)):
        if total <= bound:
            break
        if not item.pinned:
            chosen.append(item)
            total -= item.bytes
    return chosen


def prune(build: Path, bound: int, time: str) -> list[Path]:
    """Prune every recipe's folder in a build directory; what was removed. `time` is this run's, whose logs stay.

    A folder whose state cannot be read is left alone: without it nobody knows what is published.
    """
    folders = [Folder(path.parent) for path in sorted(build.glob("*/reconvert")) if path.is_dir()]
    for folder in folders:
        for place in (folder.kept, folder.failed):
            for left in place.glob(f"{PART}*"):
                shutil.rmtree(left, ignore_errors=True)
    items = [item for folder in folders for item in _of(folder, time)]
    chosen = doomed(items, bound)
    for item in chosen:
        shutil.rmtree(item.path) if item.path.is_dir() else item.path.unlink()
    return [item.path for item in chosen]


def _of(folder: Folder, time: str) -> list[Removable]:
    try:
        return list(_items(folder, read_state(folder.state), time))
    except ArtifactError as error:
        say(f"not pruned: {error}")
        return []


def _items(folder: Folder, state: State, time: str) -> Iterator[Removable]:
    needed = {known.key[:DIGITS] for known in (state.done, state.published) if known is not None}
    failing = {state.failing.key[:DIGITS]} if state.failing is not None else set()
    current = _inodes(folder)
    for place, keys in ((folder.kept, needed), (folder.failed, failing)):
        newest = {_key(path): path for path in _entries(place)}
        for path in _entries(place):
            yield Removable(path, _bytes(path, current), _key(path) in keys and path == newest[_key(path)])
    for path in _entries(folder.logs):
        yield Removable(path, path.stat().st_size, path.name.startswith(time) or _key(path) in failing)


def _key(path: Path) -> str:
    """The key's digits in a name that `stamped` has begun."""
    return path.name.split("-")[1]


def _entries(place: Path) -> list[Path]:
    """Return what runs have left in a folder; what somebody else put there is not ours to count or remove."""
    return sorted(path for path in place.glob("*") if STAMPED.match(path.name) and not path.is_symlink())


def _inodes(folder: Folder) -> set[tuple[int, int]]:
    """Files of the recipe's artifacts: a kept link to one of them takes no room of its own."""
    found = set()
    for path in folder.home.rglob("*"):
        if path.is_file() and folder.state.parent not in path.parents:
            status = path.stat()
            found.add((status.st_dev, status.st_ino))
    return found


def _bytes(path: Path, free: set[tuple[int, int]]) -> int:
    """Bytes that a folder takes; a file that two kept folders share counts in both, so the bound holds."""
    states = [file.stat() for file in path.rglob("*") if file.is_file()]
    return sum(status.st_size for status in states if (status.st_dev, status.st_ino) not in free)
