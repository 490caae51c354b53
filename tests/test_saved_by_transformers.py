"""A checkpoint that transformers 4 or 5 saved is converted and passes: they write other files and other keys."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, Stage
from tests.support import stock_export
from tests.support.asking import quick
from verify.runtimes.optimum import environment

PROGRAM = ROOT / "tests" / "support" / "save_checkpoint.py"


@pytest.mark.slow
@pytest.mark.parametrize("major", [pytest.param(4, marks=stock_export.missing), 5])
def test_it_converts_and_passes(stage: Stage, tmp_path: Path, major: int) -> None:
    saved, original = tmp_path / "saved", ROOT / "recipes" / "embedded"
    python = sys.executable if major == 5 else str(environment.program("python"))
    command = [python, str(PROGRAM), str(original), str(saved)]
    subprocess.run(command, env=environment.variables(), check=True, capture_output=True, timeout=120)
    assert json.loads((saved / "config.json").read_text())["transformers_version"].startswith(f"{major}.")
    shutil.copy(original / "README.md", saved)  # which states the licence that the recipe asks for
    recipe = quick(tmp_path)
    text = re.sub(
        r"^checks = .*", 'checks = ["structure", "tokenizer", "logits"]', recipe.read_text(), flags=re.MULTILINE
    )
    recipe.write_text(text)
    build = tmp_path / "build"
    stage("convert", recipe, "--source", saved, "--build", build)
    assert "verdict: passed" in stage("verify", recipe, "--variant", "fp32", "--build", build).stderr
    made, own = build / "embedded" / "fp32", build / "own"
    stage("convert", recipe, "--source", original, "--build", own)
    for name in ("onnx/model.onnx", "generation_config.json"):
        assert (made / name).read_bytes() == (own / "embedded" / "fp32" / name).read_bytes(), name
