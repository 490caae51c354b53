"""Test what a disk that fails leaves behind: the artifacts of the run before, whole."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import onnx_ir
import pytest

from pipeline.artifact.store import open_artifact
from tests.support.tiny_checkpoints import BIAS, convert, converted, edit_tensors, write_checkpoint


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "checkpoint")


def test_file_where_the_artifact_belongs(tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "build" / "tiny" / "fp32"
    place.parent.mkdir(parents=True)
    place.write_text("precious")
    assert convert(checkpoint, tmp_path / "build") == 3
    assert "a link or a file is where the artifact belongs" in capsys.readouterr().err
    assert place.read_text() == "precious"


def test_file_where_the_build_directory_belongs(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "tiny").write_text("precious")
    assert convert(checkpoint, tmp_path / "build") == 3
    assert "a file is where a directory is needed" in capsys.readouterr().err


def _fail(code: int) -> Callable[..., NoReturn]:
    def fail(*_: Any, **__: Any) -> NoReturn:
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize("code", [errno.EROFS, errno.ENOSPC, errno.EACCES])
@pytest.mark.parametrize(("owner", "name"), [(shutil, "copyfile"), (onnx_ir, "save"), (os, "replace")])
def test_previous_artifacts_survive_a_failing_disk(
    tmp_path: Path, checkpoint: Path, owner: Any, name: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "build" / "tiny"
    converted(checkpoint, tmp_path / "build")
    before = {kind: open_artifact(home / kind, made_by="test").digest for kind in ("source", "fp32")}
    edit_tensors(checkpoint, lambda tensors: tensors[BIAS].zero_())
    with pytest.MonkeyPatch.context() as broken:
        broken.setattr(owner, name, _fail(code))
        assert convert(checkpoint, tmp_path / "build") == 3
    assert os.strerror(code) in capsys.readouterr().err
    kept = ["fp32"] if name == "save" else ["source", "fp32"]  # a graph that cannot be saved has a new, whole source
    assert {kind: open_artifact(home / kind, made_by="test").digest for kind in kept} == {k: before[k] for k in kept}
    assert sorted(path.name for path in home.iterdir()) == ["fp32", "source"]
    converted(checkpoint, tmp_path / "build")
    assert open_artifact(home / "fp32", made_by="test").digest != before["fp32"]
