"""Planted faults: each must make `verify --candidate` exit with 1 and name a check that can see it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import quantize_dynamic
from optimum.exporters.onnx import main_export

from pipeline.command import run
from pipeline.variants import model_file
from tests.conftest import EMBEDDED, Stage
from tests.support import planted
from tests.support.short_recipe import SOURCE, shorter_recipe
from verify.__main__ import main
from verify.faults.surgery import change_outputs

Fault = Callable[[onnx.ModelProto], None]

# fault in the standard graph -> the checks of which at least one must fail
GRAPHS: dict[Fault, set[str]] = {
    planted.key_and_value_swapped: {"logits", "cache"},
    planted.mask_ignored: {"logits"},
    planted.past_off_by_one: {"cache"},
    planted.causal_mask_off_by_one: {"logits"},
    planted.exact_gelu: {"logits"},
    planted.layer_dropped: {"logits"},
    planted.cache_of_one_layer_stale: {"cache", "logits"},
    planted.embedding_twice: {"structure"},
}


def verdict_of(candidate: Path, home: Path, variant: str = "fp32") -> tuple[int, dict[str, Any]]:
    arguments = [str(shorter_recipe(home)), "--no-runtimes", "--candidate", str(candidate), "--variant", variant]
    code = run(main, [*arguments, "--source", str(SOURCE), "--build", str(home)])
    return code, json.loads((home / "embedded" / "candidate-report" / "report.json").read_text())


def failing(report: dict[str, Any]) -> set[str]:
    return {result["check"] for result in report["results"] if not result["passed"]}


@pytest.fixture(scope="module")
def standard_build(tmp_path_factory: pytest.TempPathFactory, stage: Stage) -> Path:
    """As `build`, with the graph of standard operators. Tests must not change it."""
    home = tmp_path_factory.mktemp("standard")
    recipe = home / "standard.toml"
    text = EMBEDDED.read_text().replace('path = "embedded"', f'path = "{SOURCE}"')
    recipe.write_text(
        text.replace('"text/', f'"{EMBEDDED.parent}/text/').replace("[source]", 'graph = "standard"\n\n[source]', 1)
    )
    stage("convert", recipe, "--build", home)
    stage("quantize", recipe, "--variant", "q8", "bnb4", "--build", home)
    return home


@pytest.fixture
def files(build: Path, tmp_path: Path) -> Path:
    """A copy of the fp32 artifact's files, to plant faults in."""
    return Path(shutil.copytree(build / "embedded" / "fp32", tmp_path / "candidate"))


@pytest.fixture
def standard_files(standard_build: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(standard_build / "embedded" / "fp32", tmp_path / "candidate"))


@pytest.mark.slow
@pytest.mark.parametrize("form", ["files", "standard_files"])
def test_the_unharmed_candidate_passes(form: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    files: Path = request.getfixturevalue(form)
    code, report = verdict_of(files / "onnx" / "model.onnx", tmp_path)
    assert (code, failing(report), report["verdict"]) == (0, set(), "passed")
    assert "twin" in {entry["what"] for entry in report["not_run"]}  # nothing is built in this directory
    assert "weights" in {result["check"] for result in report["results"]}


@pytest.mark.slow
@pytest.mark.parametrize("fault", GRAPHS, ids=lambda fault: fault.__name__)
def test_a_fault_in_the_standard_graph_is_caught(fault: Fault, standard_files: Path, tmp_path: Path) -> None:
    assert_caught(fault, GRAPHS[fault], standard_files / model_file("fp32"), tmp_path)


def assert_caught(fault: Fault, checks: set[str], path: Path, home: Path, variant: str = "fp32") -> None:
    """The verdict on the file with this fault in it is a failure, of one of these checks at least."""
    model = onnx.load(path)
    fault(model)
    onnx.save(model, path)
    code, report = verdict_of(path, home, variant)
    assert code == 1
    assert failing(report) & checks, f"caught only by {failing(report)}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variant", "fault"), [("q8", planted.causal_mask_off_by_one), ("bnb4", planted.past_off_by_one)]
)
def test_a_fault_in_a_quantized_standard_graph_is_caught(
    fault: Fault, variant: str, standard_build: Path, tmp_path: Path
) -> None:
    files = Path(shutil.copytree(standard_build / "embedded" / variant, tmp_path / "candidate"))
    assert_caught(fault, GRAPHS[fault], files / model_file(variant), tmp_path, variant)


@pytest.mark.slow
def test_a_candidate_is_compared_with_the_built_variant(build: Path, tmp_path: Path) -> None:
    """A scale that is off by less than the quantization's error; the same file unharmed passes."""
    own = Path(shutil.copytree(build, tmp_path / "build"))
    files = Path(shutil.copytree(build / "embedded" / "q4", tmp_path / "candidate"))
    path = files / model_file("q4")
    arguments = [str(EMBEDDED), "--candidate", str(path), "--variant", "q4", "--build", str(own), "--no-runtimes"]
    assert run(main, arguments) == 0
    report = json.loads((own / "embedded" / "candidate-report" / "report.json").read_text())
    assert "twin" in {result["check"] for result in report["results"]}
    assert "twin" not in {entry["what"] for entry in report["not_run"]}
    model = onnx.load(path)
    change_outputs(model, "transformer.h.2.mlp.c_fc.weight", lambda scales: scales * np.float32(1.001), scales=True)
    onnx.save(model, path)
    assert run(main, arguments) == 1
    report = json.loads((own / "embedded" / "candidate-report" / "report.json").read_text())
    assert failing(report) == {"twin"}


@pytest.mark.slow
def test_dynamic_int8_is_caught_by_its_batch_dependence(standard_files: Path, tmp_path: Path) -> None:
    """One activation scale per tensor: what the stock conversion calls q8. A row's logits move with its neighbours'."""
    path = standard_files / "onnx" / "model_quantized.onnx"
    quantize_dynamic(standard_files / "onnx" / "model.onnx", path, extra_options={"MatMulConstBOnly": True})
    code, report = verdict_of(path, tmp_path, "q8")
    assert code == 1
    (dependence, *_) = (m["value"] for r in report["results"] for m in r["measures"] if m["name"] == "batch_dependence")
    assert dependence > 1000 * 5e-5


@pytest.mark.slow
def test_the_stock_export_passes(build: Path, tmp_path: Path) -> None:
    """Somebody else's conversion, with no manifest: Optimum's own export of the same checkpoint is right, but large."""
    home = tmp_path / "stock"
    source, task = build / "embedded" / "source", "text-generation-with-past"
    main_export(source, home, task=task, opset=18, library_name="transformers", do_validation=False)
    _, report = verdict_of(home / "model.onnx", tmp_path)
    bad = {m["name"] for r in report["results"] for m in r["measures"] if not m["passed"]}
    assert (failing(report), bad) == ({"structure"}, {"bytes_per_parameter", "logits_on_demand"})
