"""A model whose weights lie beside its graphs, through every stage, as one beyond 2 GiB goes through them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import snapshot_download

from pipeline.recipe.recipe import read_recipe
from pipeline.variants import FILES, model_file, own_files
from tests.conftest import ROOT, Stage
from tests.hub.access import WRITE
from tests.support import asking, rehearsing
from tests.support.local_hub import LocalHub
from tests.support.short_recipe import SOURCE, shorter_recipe
from verify.reference.model import Reference
from verify.run_checks import Target

server, hub = rehearsing.server, rehearsing.hub
NAME = "rehearsal/embedded-ONNX"


def beside(recipe: Path) -> Path:
    """Change a recipe: all weights lie beside the graphs, whose 10 kB for the places are 1 % of so small a model."""
    text = recipe.read_text().replace("\n[source]", "external_data_above = 0\n\n[source]", 1)
    for old, new in {
        "int8 = { max = 1.08,": "1.09",
        "q4 = { max = 0.849,": "0.86",
        "q4f16 = { max = 0.739,": "0.75",
    }.items():
        assert text.count(f"\n{old}") == 1
        text = text.replace(f"\n{old}", f"\n{old.rpartition(' ')[0]} {new},")
    text = text.replace("bnb4 = { max = 0.786,", "bnb4 = { max = 0.80,")
    recipe.write_text(text)
    return recipe


@pytest.fixture(name="built", scope="module")
def built_once(tmp_path_factory: pytest.TempPathFactory, stage: Stage) -> Path:
    """A directory with the recipe, and the build of all variants. Tests must not change it."""
    home = tmp_path_factory.mktemp("beside")
    recipe = beside(asking.quick(home))
    stage("convert", recipe, "--source", SOURCE, "--build", home / "build")
    stage("quantize", recipe, "--build", home / "build")
    return home


@pytest.mark.slow
def test_it_is_published_downloaded_and_run(hub: LocalHub, stage: Stage, built: Path, tmp_path: Path) -> None:
    home = tmp_path / "build"
    shutil.copytree(built / "build", home)
    network = {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": WRITE, "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1,localhost"}
    stage("verify", built / "embedded.toml", "--build", home)
    stage("publish", built / "embedded.toml", "--build", home, "--push", **network)
    tree = Path(snapshot_download(NAME, local_dir=tmp_path / "got", endpoint=hub.endpoint, token=WRITE))
    variants = read_recipe(built / "embedded.toml").files
    assert all((tree / name).is_file() for variant in variants for name in own_files(variant))
    assert (tree / model_file("q4_in_place")).stat().st_size < 99_000  # it reads model_q4.onnx_data
    told = json.loads((tree / "config.json").read_text())["transformers.js_config"]["use_external_data_format"]
    assert told == dict.fromkeys((FILES[variant] for variant in variants), True)
    assert json.loads((tree / "page.json").read_text())["variants"] == []
    assert f"{sum((tree / name).stat().st_size for name in own_files('q8')):,}" in (tree / "README.md").read_text()
    reference = Reference(ROOT / "recipes" / "embedded", allow_pickle=False)
    for runtime in ("onnxruntime", "optimum", "transformersjs", "genai"):
        graph, data = (tree / name for name in own_files("q8"))
        found = asking.outcome(asking.shorter(runtime), reference, [Target("q8", graph, data=(data,))])
        assert (asking.failures(found), found.not_run) == ([], []), runtime


@pytest.mark.slow
def test_a_fault_in_the_data_is_caught_and_explained(stage: Stage, built: Path, tmp_path: Path) -> None:
    shutil.copytree(built / "build" / "embedded" / "q8", tmp_path / "candidate")
    graph, data = (tmp_path / "candidate" / name for name in own_files("q8"))
    recipe = beside(shorter_recipe(tmp_path, checks=["structure", "weights", "logits"]))
    asked = ("verify", recipe, "--candidate", graph, "--variant", "q8", "--source", SOURCE, "--build", built / "build")
    stage(*asked)
    spoil(graph, data, "transformer.h.3.mlp.c_fc.bias")
    assert "transformer.h.3.mlp.c_fc" in stage(*asked, "--explain", code=1).stderr


def spoil(graph: Path, data: Path, name: str) -> None:
    """Add 3 to a float32 tensor where it lies in the data file."""
    import onnx

    (tensor,) = (entry for entry in onnx.load(graph, load_external_data=False).graph.initializer if entry.name == name)
    place = {entry.key: int(entry.value) for entry in tensor.external_data if entry.key != "location"}
    content = bytearray(data.read_bytes())
    part = slice(place["offset"], place["offset"] + place["length"])
    content[part] = (np.frombuffer(bytes(content[part]), np.float32) + np.float32(3)).tobytes()
    data.write_bytes(content)
