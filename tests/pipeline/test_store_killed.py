"""Test what a run that is killed at any step leaves behind: the artifact of the run before or its own, whole."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest

from pipeline.artifact import store
from pipeline.artifact.store import intact
from pipeline.errors import ArtifactError
from tests.conftest import ROOT
from tests.support import small_artifacts
from tests.support.small_artifacts import NEW, OLD, listing, make, read, refusal

target = small_artifacts.target


OWNER = """
import sys, pathlib
from pipeline.artifact.store import staging
with staging(pathlib.Path(sys.argv[1])) as staged:
    (staged / "weights").write_text("half")
    print("staged", flush=True)
    sys.stdin.read()
"""


def test_staging_of_dead_runs_is_removed_and_of_live_ones_kept(target: Path) -> None:
    """The lock says whether its owner lives: its process number may be another's, here or in a container."""
    arguments = [sys.executable, "-c", OWNER, str(target.parent / "other")]
    owner = subprocess.Popen(arguments, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert owner.stdout is not None
    assert owner.stdin is not None
    assert owner.stdout.readline() == b"staged\n"
    [alive] = listing(target.parent)
    for name in (f".staging-other-{os.getppid()}", ".staging-", ".staging-x-" + "9" * 30, ".staging-x-²"):
        (target.parent / name / "tree" / "deep").mkdir(parents=True)
    make(target)
    assert listing(target.parent) == sorted([alive, "tiny"])
    assert (target.parent / alive / "tree" / "weights").read_text() == "half"
    owner.kill()
    owner.communicate()
    make(target)
    assert listing(target.parent) == ["tiny"]


def test_a_staging_directory_that_a_reaper_took_is_made_again(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the making of the directory and its lock, and between the lock's opening and its taking."""
    flock, taken = fcntl.flock, list[Path]()

    def slow(descriptor: int, operation: int) -> None:
        if len(taken) < 2:
            [home] = target.parent.glob(".staging-*")
            taken.append(home)
            if len(taken) == 1:
                shutil.rmtree(home)
            else:
                store._reap(target.parent)
                assert not home.exists()
        flock(descriptor, operation)

    target.parent.mkdir(parents=True)
    monkeypatch.setattr(fcntl, "flock", slow)
    make(target)
    assert len(set(taken)) == 2
    assert listing(target.parent) == ["tiny"]


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOLCK])
def test_staging_that_may_not_be_locked_is_kept_or_refused(
    target: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    (target.parent / ".staging-other-4242").mkdir(parents=True)
    opened = os.open

    def refuse(path: Path, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if "other" in str(path):
            raise OSError(number, os.strerror(number))
        return opened(path, flags, mode, dir_fd=dir_fd)

    def no_locks(*_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)
    make(target)
    assert listing(target.parent) == [".staging-other-4242", "tiny"]
    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(ArtifactError if number == errno.ENOLCK else PermissionError):
        make(target)
    assert listing(target.parent) == [".staging-other-4242", "tiny"]


def test_reader_restores_an_artifact_that_was_set_aside(target: Path) -> None:
    sealed = make(target, OLD)
    target.rename(target.parent / ".previous-tiny")
    assert read(target).digest == sealed.digest
    assert listing(target.parent) == ["tiny"]


def test_reader_removes_what_a_finished_run_left(target: Path) -> None:
    make(target, OLD)
    shutil.copytree(target, target.parent / ".previous-tiny")
    sealed = make(target, NEW)
    shutil.copytree(target, target.parent / ".previous-tiny")
    assert read(target).digest == sealed.digest
    assert listing(target.parent) == ["tiny"]


def test_reader_that_loses_the_race_to_restore_goes_on(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sealed = make(target, OLD)
    target.rename(target.parent / ".previous-tiny")
    rename = os.replace

    def faster(source: Path, destination: Path) -> None:
        rename(source, destination)
        rename(source, destination)

    monkeypatch.setattr(os, "replace", faster)
    assert read(target).digest == sealed.digest


def killed(action: Callable[[], object], at: int) -> str:
    """Run an action in a child process and SIGKILL it before its change number `at` to the file system.

    The child tells of every change before it makes it, and waits for leave. Returns that change, or "done".
    """
    tell, leave = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        follow(action, tell[1], leave[0])
    with os.fdopen(tell[0], "rb", buffering=0) as told:
        os.close(tell[1])
        step = told.readline()
        for _ in range(at):
            os.write(leave[1], b".")
            step = told.readline()
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    os.close(leave[0])
    os.close(leave[1])
    assert os.WIFSIGNALED(status), "the child ended by itself"
    return step.decode().strip()


def follow(action: Callable[[], object], tell: int, leave: int) -> NoReturn:
    """The child's side of `killed`."""

    def ask(what: str) -> None:
        os.write(tell, f"{what}\n".encode())
        os.read(leave, 1)

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if writes or event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir"):
            ask(event)

    def fsync(descriptor: int) -> None:
        ask("fsync")
        sync(descriptor)

    sync = os.fsync
    try:
        os.fsync = fsync  # type: ignore[assignment]  # the store passes descriptors only
        sys.addaudithook(hook)
        action()
        ask("done")
    finally:
        os._exit(1)


def set_nothing(target: Path) -> None:
    target.parent.mkdir()


def set_previous(target: Path) -> None:
    make(target, OLD)


def set_aside(target: Path) -> None:
    """A run was killed between its two renames."""
    make(target, OLD)
    target.rename(target.parent / ".previous-tiny")


def set_both(target: Path) -> None:
    """A run was killed before it removed the previous artifact."""
    make(target, OLD)
    shutil.copytree(target, target.parent / ".previous-tiny")


@pytest.mark.parametrize("before", [set_nothing, set_previous, set_aside, set_both])
def test_sigkill_at_any_step_of_a_writer(tmp_path: Path, before: Callable[[Path], None]) -> None:
    """Test what is found is the previous artifact or the new one, intact, and the next run works."""
    old = make(tmp_path / "expected" / "old", OLD).digest
    new = make(tmp_path / "expected" / "new", NEW).digest
    steps: list[str] = []
    seen: list[str] = []
    restored = 0
    while "done" not in steps:
        target = tmp_path / f"build{len(steps)}" / "tiny"
        before(target)
        steps.append(killed(partial(make, target, NEW), at=len(steps)))
        restored += not target.exists() and (target.parent / ".previous-tiny").exists()
        found = intact(target)
        if found is None:
            assert before is set_nothing
            assert refusal(target).what == "artifact not found"
        seen.append("none" if found is None else {old: "old", new: "new"}[found.digest])
        assert make(target, NEW).digest == read(target).digest == new
        assert listing(target.parent) == ["tiny"]
    assert {"open", "os.mkdir", "os.rename", "fsync"} <= set(steps)
    assert seen == sorted(seen, key=["none", "old", "new"].index)
    assert set(seen) == ({"none", "new"} if before is set_nothing else {"old", "new"})
    if before is set_previous:
        assert restored == 1  # between the two renames is the only moment without an artifact in its place


@pytest.mark.parametrize("before", [set_previous, set_aside, set_both])
def test_sigkill_at_any_step_of_a_reader(tmp_path: Path, before: Callable[[Path], None]) -> None:
    old = make(tmp_path / "expected" / "old", OLD).digest
    steps: list[str] = []
    while "done" not in steps:
        target = tmp_path / f"build{len(steps)}" / "tiny"
        before(target)
        steps.append(killed(partial(read, target), at=len(steps)))
        assert read(target).digest == old
        assert listing(target.parent) == ["tiny"]
    assert len(steps) > (before is not set_previous)
