"""A cycle with every real stage: from a source on the local Hub to a repository there, and nothing to do afterwards."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.conftest import ROOT, Stage
from tests.hub.access import WRITE
from tests.support import asking, rehearsing
from tests.support.local_hub import LocalHub

server, hub = rehearsing.server, rehearsing.hub
SOURCE, TARGET = "rehearsal/source", "rehearsal/embedded-ONNX"


def recipe(directory: Path) -> Path:
    """From the Hub, and only two variants."""
    path = asking.quick(directory)
    text = re.sub(
        r'^repository = "embedded"\npath = .*', f'repository = "{SOURCE}"', path.read_text(), flags=re.MULTILINE
    )
    for name in ("fp16", "q8", "uint8", "q4", "q4f16", "bnb4"):
        text = re.sub(rf"^\[\[variants\.{name}\.steps\]\]\n(?:[^\[\n].*\n|\n)*", "", text, flags=re.MULTILINE)
        text = re.sub(rf"^{name}(_in_place)? = \{{.*\n", "", text, flags=re.MULTILINE)
    text = text.replace('in_place = ["fp32", "q4"]', 'in_place = ["fp32"]')
    path.write_text(text)
    return path


@pytest.mark.slow
def test_a_source_on_the_hub_becomes_a_verified_repository_once(hub: LocalHub, stage: Stage, tmp_path: Path) -> None:
    hub.api.create_repo(SOURCE)
    hub.api.upload_folder(
        repo_id=SOURCE,
        folder_path=ROOT / "recipes" / "embedded",
        allow_patterns=["*.json", "*.safetensors", "README.md", "merges.txt"],
    )
    network = {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": WRITE, "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1,localhost"}
    words = ("reconvert", recipe(tmp_path), "--push", "--build", tmp_path / "build")

    def cycle() -> str:
        said = stage(*words, **network)
        assert WRITE not in said.stdout + said.stderr
        (row,) = json.loads(Path(said.stdout.strip()).read_text())["rows"]
        return str(row["action"])

    assert cycle() == "converted"
    (first,) = hub.history(TARGET)
    assert "onnx/model_int8.onnx" in hub.tree(TARGET)
    stage("publish", "--check", TARGET, **network)
    assert cycle() == "skipped"
    hub.api.upload_file(path_or_fileobj=b"no part of the model\n", path_in_repo="notes.txt", repo_id=SOURCE)
    assert cycle() == "skipped"
    assert hub.history(TARGET) == [first]
