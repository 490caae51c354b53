"""`verify --explain` end to end: what it writes, that the command it prints works, and what is not in the graph."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.conftest import Stage
from tests.support.initializers import store, weight
from tests.support.short_recipe import SOURCE, shorter_recipe

NODE = "transformer.h.3.ln_1/LayerNormalization"


@pytest.fixture
def home(build: Path, tmp_path: Path) -> Path:
    """A build directory with the embedded model's q4, and a copy of that to plant faults in."""
    shutil.copytree(build / "embedded" / "q4", tmp_path / "embedded" / "q4")
    shutil.copytree(build / "embedded" / "q4", tmp_path / "candidate")
    return tmp_path


@pytest.mark.slow
def test_a_failed_candidate_is_explained_and_the_command_shows_it_again(home: Path, stage: Stage) -> None:
    path = home / "candidate" / "onnx" / "model_q4.onnx"
    model = onnx.load(path)
    store(model, "transformer.h.3.ln_1.bias", weight(model, "transformer.h.3.ln_1.bias") + np.float32(3))
    onnx.save(model, path)
    arguments = [
        shorter_recipe(home, checks=["structure", "logits"]),
        "--candidate",
        path,
        "--variant",
        "q4",
        "--source",
        SOURCE,
        "--build",
        home,
    ]
    result = stage("verify", *arguments, "--explain", code=1)
    report = home / "embedded" / "candidate-report"
    (entry,) = json.loads((report / "explain.json").read_text())["explanations"]
    assert (entry["kind"], entry["node"]) == ("node", NODE)
    assert "initializer transformer.h.3.ln_1.bias differs from the reference's in 128 of 128" in entry["what"][0]
    for text in (result.stderr, (report / "report.md").read_text()):
        assert f"node: {NODE}" in text
        assert "Where the fault of" in text or "where the fault is" in text
    name, *again = shlex.split(entry["command"])[2:]
    assert name == "verify.explain"
    shown = json.loads(stage(name, *again, code=1).stdout)
    assert (shown["node"], shown["input"]) == (NODE, entry["input"])
    clean = [str(home / "embedded" / "q4" / "onnx" / "model_q4.onnx") if i == 0 else x for i, x in enumerate(again)]
    assert json.loads(stage(name, *clean).stdout)["node"] is None


@pytest.mark.slow
def test_what_is_not_in_the_graph_is_not_searched_there(home: Path, stage: Stage) -> None:
    path = home / "candidate" / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "eos_token_id": 13}))
    graph = home / "candidate" / "onnx" / "model_q4.onnx"
    arguments = [
        shorter_recipe(home, checks=["structure", "tokenizer"]),
        "--candidate",
        graph,
        "--variant",
        "q4",
        "--source",
        SOURCE,
        "--build",
        home,
    ]
    result = stage("verify", *arguments, "--explain", code=1)
    (entry,) = json.loads((home / "embedded" / "candidate-report" / "explain.json").read_text())["explanations"]
    assert (entry["kind"], entry["node"], entry["input"]) == ("beside the graph", None, None)
    assert "generation_config.json: eos_token_id is 13, not " in " ".join(entry["failed"])
    assert "not in what the graph computes" in result.stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "cannot be read"), ("{}", "no criterion"), ('{"criterion": {}, "input": {}}', "not an input")],
)
def test_a_file_that_is_no_input_is_refused(content: str, message: str, tmp_path: Path, stage: Stage) -> None:
    file, graph = tmp_path / "input.json", tmp_path / "graph.onnx"
    file.write_text(content)
    graph.write_bytes(b"")
    error = stage("verify.explain", graph, "--source", SOURCE, "--input", file, code=3).stderr
    assert message in error
