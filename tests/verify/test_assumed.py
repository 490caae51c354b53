"""A file that no recipe was written for: the recipe that verify assumes, and the verdict by it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from model import genai_config
from pipeline.variants import model_file
from tests.conftest import ROOT, Stage
from tests.support import stock_export, tiny_graph, tokenizer_sources
from verify import assumed, run_checks, verdict
from verify.bounds.usual import USUAL
from verify.candidate import generation_files, ports, session
from verify.candidate.width import variant_of
from verify.checks import weights
from verify.reference.model import Reference
from verify.runtimes.optimum import loadable

SOURCE = ROOT / "recipes" / "embedded"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tokenizer_sources.checkpoint(tmp_path_factory.mktemp("source") / "tiny")


def test_every_figure_of_every_variant_has_a_bound_and_fewer_bits_no_tighter_one(
    checkpoint: Path, tmp_path: Path
) -> None:
    recipe = assumed.recipe_for(checkpoint, tmp_path)
    assert recipe.path == tmp_path / "tiny" / assumed.FILE
    modules = run_checks.plan(recipe, recipe.verify.checks)
    verdict.require_tolerances(recipe, modules, recipe.files)
    for check, figure in USUAL:
        first, *others = (recipe.limit(check, figure, name) for name in ("fp32", "fp16", "q8", "q4"))
        worst = [abs(float(not limit.upper) - limit.bound) for limit in (first, *others)]
        assert worst[0] <= min(worst), (check, figure)
        assert worst[2] <= worst[3], (check, figure)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]
    assert [path.name for path in (tmp_path / "tiny").iterdir()] == [assumed.FILE]


def test_its_ranges_are_those_of_the_reference_and_a_margin(checkpoint: Path, tmp_path: Path) -> None:
    recipe = assumed.recipe_for(checkpoint, tmp_path)
    ids = np.arange(20, dtype=np.int64)[None]
    reference = Reference(checkpoint, allow_pickle=False)
    largest = float(np.abs(reference.forward(ids, np.ones_like(ids), ids).logits).max())
    assert recipe.basis.logits_range is not None
    assert largest / 2 < recipe.basis.logits_range < 3 * largest
    assert recipe.basis.measured_on


@pytest.mark.parametrize(
    ("variant", "taken"),
    [
        ("fp32", "fp32"),
        ("fp16", "fp16"),
        ("q8", "q8"),
        ("int8", "q8"),
        ("uint8", "q8"),
        ("q4", "q4"),
        ("q4f16", "q4f16"),
        ("bnb4", "q4"),
    ],
)
def test_the_width_of_a_file_is_told_from_its_graph(variant: str, taken: str, build: Path) -> None:
    model = onnx.load(build / "embedded" / variant / model_file(variant))
    assert variant_of(model) == taken


def renamed(model: onnx.ModelProto, port: str, axis: int, name: str | int) -> None:
    values = [*model.graph.input, *model.graph.output]
    (found,) = (value for value in values if value.name == port)
    dim = found.type.tensor_type.shape.dim[axis]
    if isinstance(name, int):
        dim.dim_value = name
    else:
        dim.dim_param = name


def typed(model: onnx.ModelProto, port: str, kind: int) -> None:
    (found,) = (value for value in [*model.graph.input, *model.graph.output] if value.name == port)
    found.type.tensor_type.elem_type = kind


def dropped(model: onnx.ModelProto, port: str) -> None:
    for values in (model.graph.input, model.graph.output):
        for value in [value for value in values if value.name == port]:
            values.remove(value)


def added(model: onnx.ModelProto, name: str) -> None:
    model.graph.output.append(onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, ["a"]))


@pytest.mark.parametrize(
    ("change", "serves"),
    [
        (lambda model: renamed(model, "input_ids", 0, "rows"), True),
        (lambda model: renamed(model, "present.0.key", 2, "all"), True),
        (lambda model: renamed(model, "logits", 2, "words"), True),
        (lambda model: typed(model, "past_key_values.0.key", TensorProto.FLOAT16), True),
        (lambda model: typed(model, "logits", TensorProto.FLOAT16), True),
        (lambda model: dropped(model, "position_ids"), True),
        (lambda model: added(model, "hidden_states"), True),
        (lambda model: renamed(model, "past_key_values.0.key", 0, "rows"), False),
        (lambda model: renamed(model, "past_key_values.1.value", 3, 7), False),
        (lambda model: renamed(model, "input_ids", 0, 1), False),
        (lambda model: typed(model, "input_ids", TensorProto.INT32), False),
        (lambda model: typed(model, "logits", TensorProto.INT64), False),
        (lambda model: dropped(model, "attention_mask"), False),
        (lambda model: dropped(model, "present.1.key"), False),
    ],
)
def test_what_loaders_do_not_need_may_differ(change: Callable[[onnx.ModelProto], None], serves: bool) -> None:
    model = tiny_graph.tiny_model()
    assert ports.violations(model.graph, tiny_graph.DIMS, ports.STRICT) == []
    assert ports.violations(model.graph, tiny_graph.DIMS, ports.USABLE) == []
    change(model)
    assert ports.violations(model.graph, tiny_graph.DIMS, ports.STRICT)
    assert (ports.violations(model.graph, tiny_graph.DIMS, ports.USABLE) == []) == serves


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ([], "no recipe is named"),
        (["--candidate", "model.onnx"], "no recipe is named"),
        (["--source", SOURCE], "no recipe is named"),
        (["--candidate", "a.onnx", "--source", SOURCE, "--reference", "b.onnx"], "--reference without a recipe"),
    ],
)
def test_without_a_recipe_a_file_and_its_checkpoint_are_needed(words: list[object], what: str, stage: Stage) -> None:
    assert what in stage("verify", *words, code=2).stderr


def test_an_input_that_a_graph_lacks_may_be_missing_in_its_genai_config(tmp_path: Path) -> None:
    facts = {
        "model": {"decoder": {"inputs": {"position_ids": "position_ids"}}},
        "bos_token_id": [0],
        "pad_token_id": [0],
        "ends": [0],
    }
    table = {"model": {"decoder": {"inputs": {}}, "eos_token_id": 0}}
    (tmp_path / genai_config.FILE).write_text(json.dumps(table))
    assert len([*generation_files.genai(tmp_path, facts)]) == 1
    assert [*generation_files.genai(tmp_path, facts, ["position_ids"])] == []


def test_sizes_that_a_graph_leaves_open_are_taken_from_the_config() -> None:
    port = SimpleNamespace(
        name="past_key_values.0.key", shape=["batch_size", 2, "past", "width"], type="tensor(float16)"
    )
    made = session.empty(port, 3, (2, 16))
    assert made.shape == (3, 2, 0, 16)
    assert made.dtype == np.float16
    with pytest.raises(TypeError, match="leaves open how many heads"):
        session.empty(port, 3, None)


def test_modules_that_are_packed_are_shown_and_what_is_there_is_judged() -> None:
    reference: Any = None
    partial = {"figures": {"a": {"function_error": 0.5}}, "missing": ["q", "k"], "compared": 9}
    packed, whole = (weights.summarize([{**partial, "packed": state}], {}, reference) for state in (True, False))
    assert {m.name: (m.value, m.judged) for m in packed} == {"missing": (2, False), "function_error": (0.5, True)}
    assert next(m for m in whole if m.name == "missing").fixed == 0
    assert {m.name for m in whole} > {m.name for m in packed}, "a figure of nothing fails"


def test_the_width_that_optimum_takes_for_a_heads_is_told(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    assert loadable.reason(path) is None
    for width, loads in ((None, True), (32, True), (48, False)):
        path.write_text(json.dumps({"hidden_size": 128, "num_attention_heads": 4, "head_dim": width}))
        assert (loadable.reason(path) is None) == loads


@pytest.mark.slow
@stock_export.missing
def test_the_stock_export_passes_without_a_recipe_and_a_faulty_one_does_not(
    checkpoint: Path, stage: Stage, tmp_path: Path
) -> None:
    """Optimum's own export, then the same with one weight off by a hundredth."""
    path = stock_export.export(checkpoint, tmp_path / "stock")
    words = ["verify", "--candidate", path, "--source", checkpoint, "--build", tmp_path / "build"]
    report = json.loads((Path(stage(*words).stdout.strip()) / "report.json").read_text())
    assert assumed.NOTICE in report["notices"]
    shown = {m["name"]: m["value"] for r in report["results"] for m in r["measures"] if r["check"] == "structure"}
    assert (shown["contract"], shown["logits_on_demand"]) == (0, 1)
    model = onnx.load(path)
    largest = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    values = numpy_helper.to_array(largest).copy()
    values.flat[5] *= 1.01
    largest.raw_data = values.tobytes()
    onnx.save(model, path)
    report = json.loads((Path(stage(*words, code=1).stdout.strip()) / "report.json").read_text())
    assert "weights" in {r["check"] for r in report["results"] for m in r["measures"] if not m["passed"]}
