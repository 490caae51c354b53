"""Test what a run that fails at any step leaves behind: the artifact of the run before or its own, whole."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.artifact.store import intact, staging
from tests.support import small_artifacts
from tests.support.small_artifacts import NEW, OLD, listing, make, read

target = small_artifacts.target


def test_staging_is_removed_on_an_exception_and_the_previous_artifact_kept(target: Path) -> None:
    sealed = make(target)
    with pytest.raises(KeyboardInterrupt), staging(target) as staged:
        (staged / "half").write_text("written")
        raise KeyboardInterrupt
    assert listing(target.parent) == ["tiny"]
    assert read(target).digest == sealed.digest


class Failing:
    """A call that fails the time with this index, and records that it did."""

    def __init__(self, call: Callable[..., object], at: int, number: int) -> None:
        self.call, self.at, self.number = call, at, number
        self.count = 0

    def __call__(self, *arguments: object) -> object:
        self.count += 1
        if self.failed and self.count == self.at + 1:
            raise OSError(self.number, os.strerror(self.number))
        return self.call(*arguments)

    @property
    def failed(self) -> bool:
        return self.count > self.at


@pytest.mark.parametrize("previous", [True, False], ids=["previous", "none"])
@pytest.mark.parametrize(("name", "least"), [("fsync", 8), ("replace", 1), ("mkdir", 3)])
def test_full_disk_at_any_step(
    target: Path, monkeypatch: pytest.MonkeyPatch, name: str, least: int, previous: bool
) -> None:
    """Nothing is left behind, and the previous artifact is kept, or the new one if it was in place already."""
    for at in range(100):
        shutil.rmtree(target.parent, ignore_errors=True)
        if previous:
            make(target, OLD)
        with monkeypatch.context() as patch:
            call = Failing(getattr(os, name), at, errno.ENOSPC)
            patch.setattr(os, name, call)
            with contextlib.suppress(OSError):  # a folder that exists already needs no mkdir
                make(target, NEW)
        kept = intact(target)
        assert kept is not None or (call.failed and not previous)
        assert not target.parent.exists() or listing(target.parent) == (["tiny"] if kept else [])
        make(target, NEW)
        assert (read(target).path / "onnx/deep/model.onnx").read_text() == "new weights"
        if not call.failed:
            break
    assert least <= at < 100


def test_failed_rename_brings_the_previous_artifact_back_at_once(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(target, OLD)
    monkeypatch.setattr(os, "replace", Failing(os.replace, 1, errno.EIO))
    with pytest.raises(OSError, match="Input/output error"):
        make(target, NEW)
    assert (target / "onnx/deep/model.onnx").read_text() == "old"
    assert listing(target.parent) == ["tiny"]
