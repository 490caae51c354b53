"""Artifacts on disk: written aside, manifest last, renamed into place; hashed again by every reader."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.artifact.manifest import FILE_NAME, FileEntry, Manifest, parse_manifest
from pipeline.canonical import canonical_json, file_digest
from pipeline.errors import ArtifactError, PipelineError

STAGING = ".staging-"
LOCK = "lock"  # a file in the staging directory, locked for as long as its owner lives
TREE = "tree"  # what is staged, beside the lock
PREVIOUS = ".previous-"


@dataclass(frozen=True)
class Artifact:
    """A directory whose content was found to match its manifest."""

    path: Path
    manifest: Manifest

    @property
    def digest(self) -> str:
        """Digest of the manifest: the artifact's identity."""
        return self.manifest.digest


def open_artifact(path: Path, *, made_by: str) -> Artifact:
    """Open an artifact and hash every file in it.

    `made_by` is the command that makes it, for the error's advice. Raises ArtifactError when the directory is
    missing, has no manifest, or holds a missing, additional, altered or linked file.
    """
    recover(path)
    hint = f"run: {made_by}"
    if not path.is_dir():
        raise ArtifactError("artifact not found", where=path, hint=hint)
    manifest_path = path / FILE_NAME
    if not manifest_path.is_file():
        raise ArtifactError("artifact has no manifest, so it was never finished", where=path, hint=hint)
    manifest = parse_manifest(manifest_path.read_bytes(), manifest_path)
    listed = {entry.path: entry for entry in manifest.files}
    found = {entry for entry in _walk(path, hint) if entry != FILE_NAME}
    for name in sorted(listed.keys() ^ found):
        state = "missing" if name in listed else "not in the manifest"
        raise ArtifactError(f"file {name} is {state}", where=path, hint=hint)
    for name, entry in listed.items():
        file = path / name
        if file.stat().st_size != entry.size or file_digest(file) != entry.sha256:
            raise ArtifactError(f"file {name} differs from its digest in the manifest", where=path, hint=hint)
    return Artifact(path, manifest)


def intact(path: Path) -> Artifact | None:
    """The artifact at `path`, or None if there is none that a reader would accept: the caller makes it again."""
    try:
        return open_artifact(path, made_by="this stage")
    except PipelineError:
        return None


def up_to_date(path: Path, wanted: Manifest, results: Sequence[str] = ()) -> Artifact | None:
    """The artifact at `path` if it is intact and was made from the same inputs by the same code; else None.

    `results` are facts that only the making finds out: they say nothing of what an artifact is made from.
    """
    artifact = intact(path)
    if artifact is None:
        return None
    facts = artifact.manifest.facts
    known = wanted.with_facts({key: facts[key] for key in results if key in facts})
    return artifact if artifact.manifest.same_making(known) else None


@contextlib.contextmanager
def staging(target: Path) -> Iterator[Path]:
    """A fresh directory on `target`'s file system; removed on every way out unless `seal` has renamed it away."""
    if target.is_symlink() or target.is_file():
        hint = "move it away, or name another build directory with --build"
        raise ArtifactError("a link or a file is where the artifact belongs", where=target, hint=hint)
    target.parent.mkdir(parents=True, exist_ok=True)
    _reap(target.parent)
    home, lock = _claim(target)
    try:
        (home / TREE).mkdir()
        yield home / TREE
    finally:
        shutil.rmtree(home, ignore_errors=True)
        os.close(lock)


def seal(staged: Path, target: Path, manifest: Manifest) -> Artifact:
    """Hash the staged files, write the manifest last, and rename the directory to `target`.

    Every file is on disk (fsync) before the manifest, the manifest before the rename. The previous artifact is set
    aside until the new one is in place; a reader that comes after a crash between the two renames restores it.
    """
    entries = []
    for name in sorted(_walk(staged, "remove the link")):
        if name == FILE_NAME:
            raise ArtifactError(
                f"file {name} is in the way", where=target, hint="move it away: the manifest is written there"
            )
        file = staged / name
        entries.append(FileEntry(name, file.stat().st_size, file_digest(file)))
        _sync(file)
    manifest = replace(manifest, files=tuple(entries))
    with (staged / FILE_NAME).open("wb") as stream:
        stream.write(canonical_json(_plain(manifest)) + b"\n")
    _sync(staged / FILE_NAME)
    for directory in (staged, *(path for path in staged.rglob("*") if path.is_dir())):
        _sync(directory)
    previous = target.parent / f"{PREVIOUS}{target.name}"
    recover(target)
    if os.path.lexists(target):
        os.replace(target, previous)
    try:
        os.replace(staged, target)
    except BaseException:
        recover(target)
        raise
    _sync(target.parent)
    recover(target)  # the new artifact is in place, so this removes the previous one
    return Artifact(target, manifest)


def recover(path: Path) -> None:
    """Bring back the previous artifact if a crash left it set aside with nothing in its place."""
    previous = path.parent / f"{PREVIOUS}{path.name}"
    if os.path.lexists(previous):
        if os.path.lexists(path):
            shutil.rmtree(previous, ignore_errors=True)
        else:
            with contextlib.suppress(FileNotFoundError):  # another reader was faster
                os.replace(previous, path)


def _plain(manifest: Manifest) -> dict[str, object]:
    table = dict(vars(manifest))
    table["files"] = [vars(entry) for entry in manifest.files]
    return table


def _walk(root: Path, hint: str) -> Iterator[str]:
    for path in root.rglob("*"):
        mode = path.lstat().st_mode
        name = path.relative_to(root).as_posix()
        if stat.S_ISREG(mode):
            yield name
        elif not stat.S_ISDIR(mode):
            raise ArtifactError(f"{name} is a link or a special file", where=root, hint=hint)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _claim(target: Path) -> tuple[Path, int]:
    """A new staging directory, and the descriptor that holds its lock; closing it gives the directory up.

    The lock, not a process number, says that the owner lives: numbers mean nothing to another machine or container
    that shares the directory, and the kernel drops a lock with its owner, however that ends.
    """
    while True:
        home = Path(tempfile.mkdtemp(prefix=f"{STAGING}{target.name}-", dir=target.parent))
        try:
            lock = _lock(home)
        except (OSError, ArtifactError):
            shutil.rmtree(home, ignore_errors=True)
            raise
        if lock is not None:
            return home, lock


def _reap(directory: Path) -> None:
    """Remove what runs that are no longer alive left behind."""
    for path in directory.glob(f"{STAGING}*"):
        try:
            lock = _lock(path)
        except OSError:  # another user's, or no directory: not ours to judge
            continue
        if lock is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)


def _lock(home: Path) -> int | None:
    """A descriptor that holds the directory's lock; None when another holds it, or has removed the directory.

    A reaper may remove a directory between its making and its locking: a lock counts only while its file is there.
    OSError where nothing can be written or the file system has no locks.
    """
    try:
        descriptor = os.open(home / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), (home / LOCK).stat()):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError as error:
        os.close(descriptor)
        if error.errno in (errno.ENOLCK, errno.EOPNOTSUPP):
            hint = "name a build directory on another file system with --build"
            raise ArtifactError("the file system cannot lock files", where=home.parent, hint=hint) from error
        raise
    os.close(descriptor)
    return None
