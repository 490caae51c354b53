"""Make and read small artifacts."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.artifact.manifest import Manifest
from pipeline.artifact.store import Artifact, open_artifact, seal, staging
from pipeline.errors import BROKEN_INPUT, ArtifactError

MANIFEST = Manifest("model", "tiny", "q8", {"commit": None}, "1", "2", {"fp32": "3"}, {"onnx": "1"}, {"n": [1, 2.5]})

OLD = {"config.json": "{}", "onnx/deep/model.onnx": "old"}

NEW = {"config.json": "{}", "onnx/deep/model.onnx": "new weights", "onnx/extra.json": "[]"}


def make(target: Path, files: dict[str, str] = OLD, manifest: Manifest = MANIFEST) -> Artifact:
    with staging(target) as staged:
        for name, content in files.items():
            (staged / name).parent.mkdir(parents=True, exist_ok=True)
            (staged / name).write_text(content)
        return seal(staged, target, manifest)


def refusal(path: Path) -> ArtifactError:
    with pytest.raises(ArtifactError) as caught:
        open_artifact(path, made_by="python -m convert tiny.toml")
    assert caught.value.exit_code == BROKEN_INPUT
    assert caught.value.hint == "run: python -m convert tiny.toml"
    return caught.value


def read(path: Path) -> Artifact:
    return open_artifact(path, made_by="test")


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "build" / "tiny"
