"""Planted faults: each must make `verify --candidate` exit with 1 and name a check that can see it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnxruntime.quantization import quantize_dynamic
from optimum.exporters.onnx import main_export

from artifact.command import run
from artifact.signature import model_file
from tests import planted, planted_fused
from tests.conftest import EMBEDDED, ROOT, Stage
from verify.__main__ import main

SOURCE = ROOT / "recipes" / "embedded"
Fault = Callable[[onnx.ModelProto], None]

# fault -> the checks of which at least one must fail
GRAPHS: dict[Fault, set[str]] = {
    planted.perturbed_row: {"logits", "divergence"},
    planted.heads_swapped: {"logits"},
    planted.key_and_value_swapped: {"logits", "cache"},
    planted.mask_ignored: {"logits"},
    planted.positions_ignored: {"logits", "cache"},
    planted.past_off_by_one: {"cache"},
    planted.causal_mask_off_by_one: {"logits"},
    planted.exact_gelu: {"logits"},
    planted.large_epsilon: {"logits"},
    planted.layer_dropped: {"logits"},
    planted.embedding_row_zeroed: {"logits"},
    planted.weight_not_a_number: {"structure"},
    planted.constant_not_a_number: {"structure"},
    planted.last_position_wrong: {"logits", "cache"},
    planted.cache_of_one_layer_stale: {"cache", "logits"},
    planted.batch_axis_renamed: {"structure"},
    planted.opset_too_new: {"structure"},
    planted.embedding_twice: {"structure"},
}

# Those that touch no operator, which the fused graph must fail for too, and its own.
FUSED: dict[Fault, set[str]] = {
    **{
        fault: GRAPHS[fault]
        for fault in (
            planted.perturbed_row,
            planted.positions_ignored,
            planted.past_off_by_one,
            planted.embedding_row_zeroed,
            planted.weight_not_a_number,
            planted.last_position_wrong,
            planted.batch_axis_renamed,
        )
    },
    planted_fused.mask_ignored: {"logits"},
    planted_fused.not_causal: {"logits"},
    planted_fused.default_scale_times_two: {"logits"},
    planted_fused.past_of_another_layer: {"cache"},
    planted_fused.presents_swapped: {"cache"},
    planted_fused.exact_gelu: {"logits"},
    planted_fused.large_epsilon: {"logits"},
    planted_fused.bias_dropped: {"logits"},
    planted_fused.residual_before_attention: {"logits"},
    planted_fused.last_logits_first: {"logits"},
    planted_fused.head_of_its_own: {"structure"},
    planted_fused.logits_on_demand_withdrawn: {"structure"},
}


# The embedded recipe with shorter work and the same tolerances, so that thirty faults take minutes.
SHORTER = {
    'path = "embedded"': f'path = "{SOURCE}"',
    'text = "text/': f'text = "{EMBEDDED.parent}/text/',
    "beam_prompts = 4": "beam_prompts = 1\nbeam_tokens = 6\nnew_tokens = 12\nprompts = [5, 9]",
    "chunks = 32": "chunks = 4\n\n[verify.cache]\nlength = 20\nprompt = 9\nsplits = 2",
}


def shorter_recipe(home: Path) -> Path:
    text = EMBEDDED.read_text()
    for old, new in SHORTER.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path = home / "recipe.toml"
    path.write_text(text)
    return path


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


@pytest.mark.slow
@pytest.mark.parametrize("fault", GRAPHS, ids=lambda fault: fault.__name__)
def test_a_fault_in_the_standard_graph_is_caught(fault: Fault, standard_files: Path, tmp_path: Path) -> None:
    assert_caught(fault, GRAPHS[fault], standard_files / model_file("fp32"), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FUSED, ids=lambda fault: fault.__name__)
def test_a_fault_in_the_fused_graph_is_caught(fault: Fault, files: Path, tmp_path: Path) -> None:
    assert_caught(fault, FUSED[fault], files / model_file("fp32"), tmp_path)


def assert_caught(fault: Fault, checks: set[str], path: Path, home: Path, variant: str = "fp32") -> None:
    """The verdict on the file with this fault in it is a failure, of one of these checks at least."""
    model = onnx.load(path)
    fault(model)
    onnx.save(model, path)
    code, report = verdict_of(path, home, variant)
    assert code == 1
    assert failing(report) & checks, f"caught only by {failing(report)}"


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["q8", "bnb4"])
@pytest.mark.parametrize(
    "fault",
    [
        planted.mask_ignored,
        planted.positions_ignored,
        planted.past_off_by_one,
        planted.causal_mask_off_by_one,
        planted.large_epsilon,
        planted.layer_dropped,
    ],
    ids=lambda fault: fault.__name__,
)
def test_a_fault_in_a_quantized_standard_graph_is_caught(
    fault: Fault, variant: str, standard_build: Path, tmp_path: Path
) -> None:
    files = Path(shutil.copytree(standard_build / "embedded" / variant, tmp_path / "candidate"))
    assert_caught(fault, GRAPHS[fault], files / model_file(variant), tmp_path, variant)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["q8", "q4"])
@pytest.mark.parametrize(
    "fault",
    [
        planted.positions_ignored,
        planted.past_off_by_one,
        planted_fused.mask_ignored,
        planted_fused.not_causal,
        planted_fused.large_epsilon,
        planted_fused.past_of_another_layer,
        planted_fused.last_logits_first,
    ],
    ids=lambda fault: fault.__name__,
)
def test_a_fault_in_a_quantized_fused_graph_is_caught(fault: Fault, variant: str, build: Path, tmp_path: Path) -> None:
    files = Path(shutil.copytree(build / "embedded" / variant, tmp_path / "candidate"))
    assert_caught(fault, FUSED[fault], files / model_file(variant), tmp_path, variant)


def stale_merges(files: Path) -> None:
    path = files / "tokenizer.json"
    table = json.loads(path.read_text())
    merges = table["model"]["merges"]
    merges[10], merges[11] = merges[11], merges[10]
    merges.pop(300)
    path.write_text(json.dumps(table))


def wrong_end(files: Path) -> None:
    path = files / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "eos_token_id": 13}))


def other_epsilon_in_config(files: Path) -> None:
    path = files / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "layer_norm_epsilon": 1e-6}))


def token_as_object(files: Path) -> None:
    path = files / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "eos_token": {"content": "<|endoftext|>"}}))


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault", [stale_merges, wrong_end, other_epsilon_in_config, token_as_object], ids=lambda fault: fault.__name__
)
def test_a_fault_beside_the_graph_is_caught(fault: Callable[[Path], None], files: Path, tmp_path: Path) -> None:
    fault(files)
    code, report = verdict_of(files / "onnx" / "model.onnx", tmp_path)
    assert code == 1
    assert failing(report) == {"tokenizer"}


@pytest.mark.slow
def test_another_variants_file_is_caught(build: Path, tmp_path: Path) -> None:
    """A 4-bit file under the name and the tolerances of 8 bits."""
    q4 = build / "embedded" / "q4" / "onnx" / "model_q4.onnx"
    code, report = verdict_of(q4, tmp_path, "q8")
    assert code == 1
    assert "divergence" in failing(report)


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
