"""A second architecture, added by one folder outside the project, goes through every stage by the same commands.

The folder, tests/support/architectures/seed_oss, builds on the product's Llama and on nothing of GPT-2's: no table of
positions but rotation, norms without a bias, heads that share keys and values, a head width that is stated, a gate.
"""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest

import model.architectures
from model import architecture
from model.architecture import Architecture
from model.contract import Dimensions
from pipeline.variants import model_file
from tests.conftest import Stage
from tests.support.second_architecture import DIMS, ENVIRONMENT, RECIPE, write_checkpoint
from verify.faults.bench import Ground
from verify.faults.fault import GRAPH, Fault, InapplicableError, catalogue

FAULTS = catalogue()
# What the family has not: nothing of these can be planted in its fp32 and q4 graphs.
WITHOUT = {
    "table of positions": {"constant_not_a_number", "last_position_scaled", "weight_not_a_number"},
    "other name for the number of heads": {"heads_by_another_name"},
    "initializer": {  # a bias, or zero points of the q4 tables
        "bias_dropped",
        "key_bias_dropped",
        "one_bias",
        "one_heads_bias_swapped",
        "one_shift_of_the_last_norm",
    },
    "FastGelu": {"exact_gelu"},
}
CENTRED = {"centre_of_the_head", "offset_of_a_rare_token"}  # of heads that have a centre: tests/verify/test_centred.py
# One of every way in which the families' graphs differ.
EXPLAINED = (
    "attention_scale",
    "large_epsilon",
    "counted_from_one",
    "key_and_value_swapped",
    "noisy_layer",
    "mask_ignored",
)


@pytest.fixture(scope="module")
def seed_oss() -> Iterator[Architecture]:
    """The folder, found in this process as a command finds it."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        importlib.reload(model.architectures)
        yield architecture.find("seed_oss")
    importlib.reload(model.architectures)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, stage: Stage, seed_oss: Architecture) -> Path:
    """A build directory with its source, fp32, q8 and q4. Tests must not change it."""
    home = tmp_path_factory.mktemp("seed_oss")
    checkpoint = write_checkpoint(home / "checkpoint", seed_oss)
    stage("convert", RECIPE, "--source", checkpoint, "--build", home, **ENVIRONMENT)
    stage("quantize", RECIPE, "--build", home, **ENVIRONMENT)
    return home


def facts(home: Path, name: str) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((home / "seed_oss" / name / "manifest.json").read_text())
    return dict(manifest["facts"])


def test_it_is_unknown_without_its_folder(tmp_path: Path, stage: Stage) -> None:
    result = stage("convert", RECIPE, "--build", tmp_path, code=2, PIPELINE_ARCHITECTURES="")
    assert "'seed_oss' does not exist" in result.stderr


def test_the_graph_is_of_onnxs_own_operators_and_keeps_the_stated_sizes(built: Path) -> None:
    graph = onnx.load(built / "seed_oss" / model_path("fp32"))
    assert {node.domain for node in graph.graph.node} == {""}
    onnx.checker.check_model(graph, full_check=True)
    assert facts(built, "fp32")["graph"] == "standard"
    found = Dimensions(**facts(built, "fp32")["dimensions"])
    assert (found.kv_heads, found.head_dim, found.heads) == (DIMS.kv_heads, DIMS.head_dim, DIMS.heads)
    genai = json.loads((built / "seed_oss" / "fp32" / "genai_config.json").read_text())["model"]["decoder"]
    assert (genai["num_key_value_heads"], genai["head_size"]) == (DIMS.kv_heads, DIMS.head_dim)


def model_path(variant: str) -> Path:
    return Path(variant) / model_file(variant)


@pytest.mark.slow
def test_every_check_passes(built: Path, stage: Stage) -> None:
    stage("verify", RECIPE, "--build", built, **ENVIRONMENT)
    report = json.loads((built / "seed_oss" / "report" / "report.json").read_text())
    assert (report["verdict"], report["complete"]) == ("passed", True)
    passed = {(entry["variant"], entry["check"]) for entry in report["results"] if entry["passed"]}
    checks = {"structure", "tokenizer", "weights", "logits", "cache", "generation", "divergence"}
    assert {(variant, check) for variant in ("fp32", "q8", "q4") for check in checks} <= passed
    for entry in report["layers"]["variants"]:
        assert len(entry["modules"]) == 1 + 2 * DIMS.layers + 2
        assert all(row["reason"] is None and row["own"] < 0.3 for row in entry["modules"])
    (missing, *_) = (m for r in report["results"] for m in r["measures"] if m["name"] == "missing")
    assert missing["compared"] == 1 + 2 * (2 + 7 + 1) + 1 + 1  # every module is asked alone, but for the rotation


@pytest.mark.parametrize("variant", ["fp32", "q4"])
def test_every_fault_is_planted_by_role_or_skipped_by_name(
    variant: str, built: Path, seed_oss: Architecture, tmp_path: Path
) -> None:
    home = built / "seed_oss"
    at = seed_oss.landmarks.landmarks(json.loads((home / "source" / "config.json").read_text()))
    ground = Ground(home, Dimensions(**facts(built, "fp32")["dimensions"]), tuple(range(700, 708)), seed_oss, at)
    skipped: dict[str, str] = {}
    for entry in FAULTS.values():
        if variant in entry.variants:
            try:
                planted(entry, variant, ground, tmp_path / entry.name)
            except InapplicableError as reason:
                skipped[entry.name] = str(reason)
            shutil.rmtree(tmp_path / entry.name, ignore_errors=True)
    for what, names in WITHOUT.items():
        assert {name for name, reason in skipped.items() if reason.startswith(f"no {what}")} >= names
    known = set.union(CENTRED, *WITHOUT.values())
    assert {name: why for name, why in skipped.items() if name not in known} == {}


def planted(entry: Fault, variant: str, ground: Ground, place: Path) -> None:
    """Plant a fault; a graph that it leaves is still one, and has the value that is to be named."""
    path = ground.plant(entry, variant, None, place)
    if entry.place == GRAPH:
        onnx.checker.check_model(path)
        made = {name for node in onnx.load(path).graph.node for name in node.output}
        assert entry.named(ground.at) in made | {"logits", None}


@pytest.mark.slow
def test_faults_are_caught_and_their_nodes_named(built: Path, stage: Stage, tmp_path: Path) -> None:
    own = Path(shutil.copytree(built, tmp_path / "build"))
    arguments = ["--build", own, "--variant", "fp32", "--seeds", "0", "--explain", "--only", *EXPLAINED]
    result = stage("verify.faults", RECIPE, *arguments, **ENVIRONMENT)
    report = json.loads((own / "seed_oss" / "faults" / "faults.json").read_text())
    assert (report["verdict"], report["missed"], report["false_alarms"]) == ("passed", [], [])
    assert {score["fault"]: score["score"] for score in report["explained"]["scores"]} == dict.fromkeys(
        EXPLAINED, "exact"
    )
    assert f"exact {len(EXPLAINED)}" in result.stdout
