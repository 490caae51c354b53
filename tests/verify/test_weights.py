"""weights and twin, without a model: what a module of a graph answers, and what the figures say of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from transformers.activations import ACT2FN

from verify.candidate.session import Candidate
from verify.candidate.subgraph import Cuts, entries_of, rows_of
from verify.check import Case, NotApplicable
from verify.checks import twin, weights
from verify.scoring import module_probes
from verify.scoring.module_probes import Module

NOBODY: Any = None  # no measure here asks the reference
RNG = np.random.default_rng(0)
WEIGHT = RNG.normal(size=(64, 24)).astype(np.float32)
BIAS = RNG.normal(size=24).astype(np.float32)
TABLE = RNG.normal(size=(10, 64)).astype(np.float32)
GAIN = RNG.normal(size=64).astype(np.float32)


def port(name: str, kind: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, ["b", "s", "w"][: 2 if kind == TensorProto.INT64 else 3])


def graph(path: Path, form: str, *, weight: np.ndarray = WEIGHT, bias: np.ndarray = BIAS) -> Candidate:
    """A table, a norm and a linear layer, named as in the form."""
    names = {
        "fused": ("m.wte/Gather", "m.ln/LayerNormalization", "m.fc.product/MatMul", "m.fc/Add"),
        "standard": ("/m/wte/Gather", "/m/ln/LayerNormalization", "/m/fc/MatMul", "/m/fc/Add"),
        "foreign": ("n0", "n1", "n2", "n3"),
    }[form]
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["v0"], name=names[0]),
        helper.make_node("LayerNormalization", ["v0", "gain"], ["v1"], name=names[1], epsilon=1e-5),
        helper.make_node("MatMul", ["v1", "weight"], ["v2"], name=names[2]),
        helper.make_node("Add", ["v2", "bias"], ["logits"], name=names[3]),
    ]
    tensors = {"table": TABLE, "gain": GAIN, "weight": weight, "bias": bias}
    made = helper.make_graph(
        nodes,
        "g",
        [port("input_ids", TensorProto.INT64)],
        [port("logits", TensorProto.FLOAT)],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return Candidate(path, "enable_all")


def case() -> Case:
    """The reference's side of `graph`."""
    question = np.stack([np.zeros(64), np.linspace(-1, 1, 64)]).astype(np.float32)
    off = question - question.mean(axis=1, keepdims=True)
    answer = off / np.sqrt(np.square(off).mean(axis=1, keepdims=True) + 1e-5) * GAIN
    arrays = {"fc.weight": WEIGHT, "fc.bias": BIAS, "wte.weight": TABLE}
    arrays |= {"m.ln.question": question, "m.ln.answer": answer.astype(np.float32)}
    arrays["m.ln.size"] = np.broadcast_to(np.abs(GAIN) + 1, question.shape)
    found = [
        Module("m.wte", "lookup", 10, "wte.weight"),
        Module("m.ln", "function"),
        Module("m.fc", "linear", 64, "fc.weight", "fc.bias"),
    ]
    return Case("modules", arrays, {"modules": [vars(entry) for entry in found], "packed": False})


def figures(candidate: Candidate) -> dict[str, float]:
    partial = weights.judge(candidate, case())
    return {measure.name: measure.value for measure in weights.summarize([partial], {}, NOBODY)}


@pytest.mark.parametrize("form", ["fused", "standard"])
def test_a_right_graph_has_no_error(form: str, tmp_path: Path) -> None:
    found = figures(graph(tmp_path / "m.onnx", form))
    assert found["function_error"] < 1e-6
    assert {name: value for name, value in found.items() if name != "function_error"} == dict.fromkeys(
        ["missing", "value_error", "block_error", "block_scale", "tensor_error", "tensor_scale"], 0
    )


def test_a_module_alone_answers_with_its_weights(tmp_path: Path) -> None:
    cuts = Cuts(graph(tmp_path / "m.onnx", "fused"))
    linear, table = cuts.find("m.fc"), cuts.find("m.wte")
    assert linear is not None
    assert table is not None
    rows = np.concatenate([found for _, found in rows_of(linear, 64)])
    np.testing.assert_array_equal(rows, WEIGHT + BIAS)
    np.testing.assert_array_equal(np.concatenate([found for _, found in entries_of(table, 10)]), TABLE)
    assert cuts.find("m.nothing") is None


@pytest.mark.parametrize("name", ["/lm_head/MatMul", "logits/MatMul"])  # of the standard form, and of the fused one
def test_a_head_is_found_behind_the_cast_of_its_logits(name: str, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"], name="/m/wte/Gather"),
        helper.make_node("MatMul", ["rows", "weight"], ["half"], name=name),
        helper.make_node("Cast", ["half"], ["logits"], name="cast", to=TensorProto.FLOAT),
    ]
    tensors = {"table": TABLE.astype(np.float16), "weight": WEIGHT.astype(np.float16)}
    stored = [numpy_helper.from_array(value, name) for name, value in tensors.items()]
    ports = [port("input_ids", TensorProto.INT64)], [port("logits", TensorProto.FLOAT)]
    made = helper.make_model(helper.make_graph(nodes, "g", *ports, stored), opset_imports=[helper.make_opsetid("", 18)])
    made.ir_version = 8
    onnx.save(made, tmp_path / "m.onnx")
    head = Cuts(Candidate(tmp_path / "m.onnx", "enable_all")).find("lm_head", "logits")
    assert head is not None
    rows = np.concatenate([found for _, found in rows_of(head, 64)])
    np.testing.assert_array_equal(rows, WEIGHT.astype(np.float16))


def test_a_graph_without_the_names_is_not_judged(tmp_path: Path) -> None:
    with pytest.raises(NotApplicable, match="bears the name"):
        weights.judge(graph(tmp_path / "m.onnx", "foreign"), case())


@given(place=st.tuples(st.integers(0, 63), st.integers(0, 23)), size=st.sampled_from([1e-6, 1e-3, 1.0]))
def test_any_weight_and_any_bias_counts(place: tuple[int, int], size: float, tmp_path_factory: object) -> None:
    path = tmp_path_factory.mktemp("w") / "m.onnx"  # type: ignore[attr-defined]  # a fixture of pytest's, for each example
    weight, bias = WEIGHT.copy(), BIAS.copy()
    weight[place] += size
    assert figures(graph(path, "fused", weight=weight))["value_error"] > 0
    bias[place[1]] += size
    assert figures(graph(path, "fused", bias=bias))["value_error"] > 0


def test_a_scale_shows_in_its_standard_errors_before_it_shows_in_the_blocks_error() -> None:
    """Rounded to 8 bits in blocks of 32, then one of them made 2 % larger."""
    wanted = RNG.normal(size=(64, 24)).astype(np.float32)
    step = np.repeat(np.abs(wanted).reshape(2, 32, 24).max(axis=1) / 127, 32, axis=0)
    found = (np.round(wanted / step) * step).astype(np.float32)
    clean, faulty = weights._Sums(32), weights._Sums(32)
    clean.add(found, wanted)
    found[32:, 5] *= np.float32(1.02)
    faulty.add(found, wanted)
    assert clean.figures()["block_scale"] < 4
    assert faulty.figures()["block_scale"] > 10
    assert faulty.figures()["block_error"] < 4 * clean.figures()["block_error"]


def test_the_twin_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(NotApplicable, match="no variant"):
        twin.judge(graph(tmp_path / "m.onnx", "fused"), SimpleNamespace(facts={}))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["gelu_new", "relu2", "mish"])
def test_an_activations_rounding_is_measured_against_what_it_takes_and_gives(name: str) -> None:
    """A square is larger than what it is made of: float32's own rounding of it must stay within the bound."""
    found = module_probes._function("act", ACT2FN[name], None)
    error = np.abs(found["act.answer"].astype(np.float64)) * 2.0**-24
    assert (error / found["act.size"]).max() < 1e-7
