"""The embedded model, published for real to the local Hub, downloaded again, proved and run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import snapshot_download

from pipeline.recipe.recipe import read_recipe
from pipeline.variants import base, model_file
from tests.conftest import ROOT, Stage
from tests.hub.access import WRITE
from tests.support import asking, rehearsing
from tests.support.local_hub import LocalHub
from verify.reference.model import Reference
from verify.run_checks import Target

server, hub = rehearsing.server, rehearsing.hub
NAME = "rehearsal/embedded-ONNX"


def run(tree: Path) -> None:
    """Every program that users load the repository with generates from this tree what PyTorch does."""
    reference = Reference(ROOT / "recipes" / "embedded", allow_pickle=False)
    programs: dict[str, tuple[str, dict[str, Any]]] = {
        "optimum": ("fp32", {}),
        "transformersjs": ("q8", {}),
        "genai": ("q4_in_place", {}),
        "browser": ("int8", {"builds": ["plain"], "threads": [2], "webgpu": []}),  # tests/verify asks the others
    }
    for runtime, (variant, settings) in programs.items():
        recipe = asking.shorter(runtime, **settings)
        weights = (tree / model_file(base(variant)),)
        found = asking.outcome(recipe, reference, [Target(variant, tree / model_file(variant), data=weights)])
        assert (asking.failures(found), found.not_run) == ([], [])
        assert {(result.variant, result.runtime) for result in found.results} == {(variant, runtime)}


@pytest.mark.slow
def test_embedded_model_is_published_downloaded_and_run(
    hub: LocalHub, stage: Stage, build: Path, tmp_path: Path
) -> None:
    home, recipe = tmp_path / "build", asking.quick(tmp_path)
    shutil.copytree(build, home)
    stage("convert", recipe, "--source", ROOT / "recipes" / "embedded", "--build", home)
    stage("quantize", recipe, "--build", home)
    network = {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": WRITE, "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1,localhost"}
    assert "artifact not found" in stage("publish", recipe, "--build", home, "--push", code=3, **network).stderr
    stage("verify", recipe, "--build", home)
    said = stage("publish", recipe, "--build", home, "--push", **network)
    assert said.stdout == f"{NAME}@{hub.history(NAME)[0]}\n"
    assert WRITE not in said.stderr
    assert "unchanged" in stage("publish", recipe, "--build", home, "--push", **network).stderr
    stage("publish", "--check", NAME, **network)
    tree = home / "embedded" / "repo"
    found = Path(snapshot_download(NAME, local_dir=tmp_path / "got", endpoint=hub.endpoint, token=WRITE))
    names = sorted(path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file())
    assert [name for name in names if (tree / name).read_bytes() != (found / name).read_bytes()] == []
    own = read_recipe(recipe)
    assert {model_file(name) for variant in own.files for name in own.graphs(variant)} < set(names)
    run(found)
