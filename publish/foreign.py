"""Name what the Hub and its clients put beside a published tree: it is neither signed nor listed nor loaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

FOREIGN = (".gitattributes", ".git", ".cache")  # the Hub; a git clone; snapshot_download(local_dir=...)


def files_of(directory: Path) -> Iterator[str]:
    """Path of every file (or link) in a tree, in the order of names, without what is foreign."""
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory)
        if name.parts[0] not in FOREIGN and (path.is_symlink() or not path.is_dir()):
            yield name.as_posix()
