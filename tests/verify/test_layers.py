"""The gap by layer: a fault shows at its module and not before it, and what cannot be measured says why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

from model.pytorch import one_thread
from pipeline.recipe.recipe import read_recipe
from tests.conftest import EMBEDDED
from tests.support import report_document as made
from tests.support.initializers import store, weight
from tests.support.tiny_checkpoints import converted, write_checkpoint
from verify.faults.surgery import rename
from verify.layers.measure import LEVEL, measure, not_finite
from verify.layers.modules import NOT_FINITE
from verify.layers.probe import OPEN, UNKNOWN
from verify.reference.corpus import Corpus
from verify.reference.model import Reference
from verify.report.layers import farthest, not_measured, table
from verify.report.markdown import markdown
from verify.run_checks import Examination, Target
from verify.verdict import Result

NAMES = (
    "embedding", "layer 0 attention", "layer 0 MLP", "layer 1 attention", "layer 1 MLP", "final norm", "head",
)  # fmt: skip
RIGHT, WRONG = 1e-5, 1e-3  # shares: rounding of float32, a fault
ATTENTION, MLP = "transformer.h.1.attn.c_proj.weight", "transformer.h.1.mlp.c_fc.weight"


def scaled(model: onnx.ModelProto, name: str, factor: float) -> None:
    value = weight(model, name)
    value[3] *= np.float32(factor)
    store(model, name, value)


def nameless(model: onnx.ModelProto) -> None:
    """Give every value but the ports another name, and every weight another value: nothing tells what is what."""
    ports = {port.name for port in (*model.graph.input, *model.graph.output)}
    inner = {name for node in model.graph.node for name in (*node.input, *node.output)} - ports - {""}
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and np.prod(tensor.dims) > 1:
            store(model, tensor.name, weight(model, tensor.name) * np.float32(1.01))
    names = {name: f"t{number}" for number, name in enumerate(sorted(inner))}
    rename(model, names)
    for tensor in model.graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    for number, node in enumerate(model.graph.node):
        node.name = f"n{number}"


CHANGES: dict[str, Callable[[onnx.ModelProto], None]] = {
    "right": lambda _: None,
    "attention": lambda model: scaled(model, ATTENTION, 2.0),
    "MLP": lambda model: scaled(model, MLP, 2.0),
    "infinite": lambda model: scaled(model, MLP, np.inf),
    "nameless": nameless,
    "hung": lambda _: None,
}


@pytest.fixture(scope="module", params=["fused", "standard"])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what is measured of the tiny model's graph with each of the changes, and of a file that is none."""
    home = tmp_path_factory.mktemp("layers")
    checkpoint = write_checkpoint(home / "checkpoint")
    path = converted(checkpoint, home / "build", graph=request.param) / "onnx" / "model.onnx"
    targets = [Target("no graph", home / "none.onnx")]
    (home / "none.onnx").write_bytes(b"none")
    for name, change in CHANGES.items():
        model = onnx.load(path)
        change(model)
        onnx.save(model, home / f"{name}.onnx")
        targets.append(Target(name, home / f"{name}.onnx"))
    reference = Reference(checkpoint, allow_pickle=False)
    recipe = read_recipe(EMBEDDED)
    examination = Examination(recipe, reference, Corpus(recipe.text_path, reference.tokenizer, 0), {}, {})
    late = Result("hung", "logits", LEVEL, (), failure="batch: no answer within 5 s: its process was killed")
    with one_thread():
        return measure(examination, targets, [late], home)


def rows(found: dict[str, Any], name: str) -> dict[str, Any]:
    (entry,) = (entry for entry in found["variants"] if entry["variant"] == name)
    return {row["name"]: row for row in entry["modules"]}


def test_a_right_graph_is_right_in_every_module(found: dict[str, Any]) -> None:
    own = rows(found, "right")
    assert tuple(own) == NAMES
    assert all(row["reason"] is None and row["error"] < RIGHT and row["own"] < RIGHT for row in own.values())


@pytest.mark.parametrize("part", ["attention", "MLP"])
def test_a_fault_shows_at_its_module_and_nowhere_before(part: str, found: dict[str, Any]) -> None:
    at = NAMES.index(f"layer 1 {part}")
    entries = list(rows(found, part).values())
    assert all(row["error"] < RIGHT for row in entries[:at])
    assert all(row["error"] > WRONG for row in entries[at:])
    assert [row["name"] for row in entries if row["own"] > RIGHT] == [f"layer 1 {part}"]


def test_what_is_not_finite_fails_its_variant_and_nothing_else_does(found: dict[str, Any]) -> None:
    (result,) = not_finite(found)
    assert (result.variant, result.passed) == ("infinite", False)
    assert result.failure == f"layer 1 MLP, final norm, head: {NOT_FINITE}"
    assert rows(found, "infinite")["layer 1 attention"]["error"] < RIGHT


def test_a_graph_without_landmarks_says_that_it_was_not_measured(found: dict[str, Any]) -> None:
    own = rows(found, "nameless")
    assert {row["reason"] for name, row in own.items() if name != "head"} == {UNKNOWN}
    assert (own["head"]["reason"], own["head"]["own"]) == (OPEN, None), "the port's name says what it is"
    assert own["head"]["error"] > WRONG


def test_what_did_not_run_says_why(found: dict[str, Any]) -> None:
    reasons = {entry["variant"]: entry["reason"] for entry in found["variants"] if not entry["modules"]}
    assert reasons.keys() == {"no graph", "hung"}
    assert reasons["hung"] == "an earlier check had no answer in time"


def test_every_form_says_what_is_missing() -> None:
    results = [made.logits(variant, "enable_all", 0.5) for variant in ("fp32", "q8", "q4")]
    layers = {"tokens": 9, "variants": [made.modules("fp32", 1e-7), made.modules("q8", 1e-3)]}
    layers["variants"][1]["modules"][2] |= {"error": None, "own": None, "reason": UNKNOWN}  # type: ignore[index]
    layers["variants"] += [{"variant": "q4", "reason": "it is no graph", "modules": []}]  # type: ignore[operator]
    report = made.make(results, layers=layers)
    assert not_measured(report) == [f"q8: layer 0 MLP: {UNKNOWN}", "q4: not measured: it is no graph"]
    heads, cells = table(report)
    assert heads == ["module", "fp32", "q8", "q4"]
    assert cells[2] == ["layer 0 MLP", "3.0e-07 (1.0e-07)", "not measured", "not measured"]
    assert farthest(report) == "layer 0 attention: fp32 1e-07, q8 0.001"
    text = markdown(report)
    assert "no bound is held to it" in text
    assert "q4: not measured: it is no graph" in text
