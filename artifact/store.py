"""Artifacts on disk: written aside, manifest last, renamed into place; hashed again by every reader."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from artifact.canonical import canonical_json, file_digest
from artifact.errors import ArtifactError, PipelineError
from artifact.manifest import FILE_NAME, FileEntry, Manifest, parse_manifest

STAGING = ".staging-"
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


def up_to_date(path: Path, wanted: Manifest) -> Artifact | None:
    """The artifact at `path` if it is intact and was made from the same inputs by the same code; else None."""
    artifact = intact(path)
    return artifact if artifact is not None and artifact.manifest.same_making(wanted) else None


@contextlib.contextmanager
def staging(target: Path) -> Iterator[Path]:
    """A fresh directory beside `target`; removed on every way out unless `seal` has renamed it away."""
    if target.is_symlink() or target.is_file():
        hint = "move it away, or name another build directory with --build"
        raise ArtifactError("a link or a file is where the artifact belongs", where=target, hint=hint)
    target.parent.mkdir(parents=True, exist_ok=True)
    _reap(target.parent)
    path = target.parent / f"{STAGING}{target.name}-{os.getpid()}"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def seal(staged: Path, target: Path, manifest: Manifest) -> Artifact:
    """Hash the staged files, write the manifest last, and rename the directory to `target`.

    Every file is on disk (fsync) before the manifest, the manifest before the rename. The previous artifact is set
    aside until the new one is in place; a reader that comes after a crash between the two renames restores it.
    """
    entries = []
    for name in sorted(_walk(staged, "remove the link")):
        if name == FILE_NAME:
            raise ArtifactError(f"file {name} is in the way", where=target, hint="the manifest needs that name")
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


def _reap(directory: Path) -> None:
    """Remove what runs that are no longer alive left behind."""
    for path in directory.glob(f"{STAGING}*"):
        process = path.name.rpartition("-")[2]
        if not process.isdecimal() or not _alive(int(process)):
            shutil.rmtree(path, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
