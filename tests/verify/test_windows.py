"""A model whose tokens look back a window only: converted, judged right, and wrong where the window is not kept."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import onnx
import pytest

from pipeline.variants import model_file
from tests.conftest import Stage
from tests.support.short_recipe import LLAMA, shorter_recipe

WINDOW = 40  # of a context of 256


@pytest.fixture(name="recipe", scope="module")
def mistral(tmp_path_factory: pytest.TempPathFactory, stage: Stage) -> Path:
    """The recipe of the trained Llama, called a Mistral with a window, and what is built of it."""
    home = tmp_path_factory.mktemp("window")
    shutil.copytree(LLAMA.with_suffix(""), home / "source")
    config = json.loads((home / "source" / "config.json").read_text())
    config |= {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": WINDOW}
    (home / "source" / "config.json").write_text(json.dumps(config))
    recipe = shorter_recipe(home, LLAMA, checks=["structure", "weights", "logits", "cache", "generation"])
    stage("convert", recipe, "--source", home / "source", "--build", home / "build")
    stage("quantize", recipe, "--build", home / "build", "--variant", "q4")
    return recipe


@pytest.mark.slow
def test_a_window_is_kept_through_every_stage(recipe: Path, stage: Stage) -> None:
    asked = ("verify", recipe, "--build", recipe.parent / "build", "--variant", "fp32", "q4")
    assert "passed" in stage(*asked).stderr


@pytest.mark.slow
def test_a_graph_without_the_window_fails(recipe: Path, stage: Stage) -> None:
    place = Path(shutil.copytree(recipe.parent / "build" / "embedded-llama" / "fp32", recipe.parent / "candidate"))
    graph = place / model_file("fp32")
    model = onnx.load(graph)
    (node,) = (node for node in model.graph.node if node.output[0] == f"attention_bias.window_{WINDOW}")
    node.input[0] = "allowed"
    onnx.save(model, graph)
    asked = ("--candidate", graph, "--variant", "fp32", "--source", recipe.parent / "source", "--explain")
    told = stage("verify", recipe, "--build", recipe.parent / "build", *asked, code=1).stderr
    assert f"attention_bias.window_{WINDOW}/Where" in told
