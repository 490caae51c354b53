"""A checkpoint that transformers 4 or 5 saved is converted and passes, in each shape: other files and other keys."""

from __future__ import annotations

import itertools
import json
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.support import stock_export
from tests.support import tokenizer_sources as sources
from tests.support.save_checkpoint import SHAPES, save
from tests.support.tiny_checkpoints import EOS, assert_same, converted, write_checkpoint
from verify.runtimes.optimum import environment

PROGRAM = ROOT / "tests" / "support" / "save_checkpoint.py"
MAJORS = (pytest.param(4, marks=stock_export.missing), 5)
ENDS = (EOS, "</end>")
Saved = dict[str, Path]


@pytest.fixture(scope="module", params=MAJORS)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """The directories of what this major version saved in each shape, by the end token's name."""
    home = tmp_path_factory.mktemp(f"transformers{request.param}")
    pairs: list[tuple[str, str]] = []
    for name in ENDS:
        source = write_checkpoint(home / f"source-{len(pairs)}")
        for path in source.glob("*.json"):
            path.write_text(path.read_text().replace(EOS, name))
        pairs.append((str(source), str(home / f"saved-{len(pairs)}")))
    if request.param == 5:
        for pair in pairs:
            save(*pair)
    else:
        command = [str(environment.program("python")), str(PROGRAM), *itertools.chain(*pairs)]
        subprocess.run(command, env=environment.variables(), check=True, capture_output=True, timeout=300)
    for _, target in pairs:
        version = json.loads((Path(target) / "plain" / "config.json").read_text())["transformers_version"]
        assert version.startswith(f"{request.param}.")
    return {name: Path(target) for name, (_, target) in zip(ENDS, pairs, strict=True)}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("the thin hat, that thing! 42")
    return path


@pytest.mark.slow
@pytest.mark.parametrize("end", ENDS, ids=["own name", "renamed"])
@pytest.mark.parametrize("shape", SHAPES)
def test_it_converts_and_passes(saved: Saved, shape: str, end: str, text: Path, tmp_path: Path) -> None:
    source = saved[end] / shape
    assert (len(list(source.glob("*.safetensors"))) > 1) == (shape == "shards")
    artifact = converted(source, tmp_path / "build")
    assert sources.problems(source, artifact, text) == []
    table = json.loads((artifact / "tokenizer_config.json").read_text())
    assert table["eos_token"] == end
    assert ("chat_template" in table) == shape.startswith("chat")
    assert_same(source, artifact)
