"""On a tiny model: the node a fault is planted in is named, on the smallest input, with what is wrong; fast."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.support import stock_export
from tests.support.initializers import insert, store, weight
from tests.support.tiny_checkpoints import SIZES, converted, write_checkpoint
from verify.candidate.input import Input
from verify.explain.explanation import NODE, NOTHING, RUN, Explanation, lines
from verify.explain.failure import Failure
from verify.explain.locate import Folders, Limits, explain
from verify.faults.surgery import must_make as made_by
from verify.faults.surgery import read_instead, rename, set_attribute
from verify.reference.model import Reference

BOUND = 1e-4


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("tiny")
    checkpoint = write_checkpoint(home / "checkpoint")
    graph = {
        form: converted(checkpoint, home / form, graph=form) / "onnx" / "model.onnx" for form in ("fused", "standard")
    }
    return {"checkpoint": checkpoint, **graph}


@pytest.fixture(scope="module")
def reference(tiny: dict[str, Path]) -> Any:
    return Reference(tiny["checkpoint"], allow_pickle=False)


def batch(pieces: tuple[int, ...]) -> Input:
    length = sum(pieces)
    ids = np.random.default_rng(1).integers(0, SIZES["vocab_size"], (3, length))
    mask = np.ones_like(ids)
    mask[1, : length // 2] = 0
    return Input(ids, mask, pieces)


def explained(model: onnx.ModelProto, reference: Reference, home: Path, **options: Any) -> Explanation:
    path = home / "faulty.onnx"
    onnx.save(model, path)
    pieces = options.pop("pieces", (11,))
    figure = {"figure": "max_abs", "check": "cache" if len(pieces) > 1 else "logits", **options}
    failure = Failure("fp32", level="disable_all", bound=BOUND, upper=True, input=batch(pieces), case="test", **figure)
    return explain(reference, Folders(path, None, home, Limits(60, 8)), failure)


def weight_of(name: str, index: Any, factor: float) -> Callable[[onnx.ModelProto], None]:
    def plant(model: onnx.ModelProto) -> None:
        value = weight(model, name)
        value[index] = value[index] * np.float32(factor) + np.float32(1e-3)
        store(model, name, value)

    return plant


def late_epsilon(model: onnx.ModelProto) -> None:
    set_attribute(made_by(model, "transformer.h.1.ln_2"), "epsilon", 1e-2)


def mask_ignored(model: onnx.ModelProto) -> None:
    (cast,) = (n for n in model.graph.node if n.op_type == "Cast" and n.input[0] == "attention_mask")
    model.graph.node.insert(0, helper.make_node("Equal", ["attention_mask"] * 2, ["everything"]))
    read_instead(model, cast.output[0], "everything")


@pytest.mark.parametrize(
    ("plant", "node", "what"),
    [
        (weight_of("transformer.h.1.mlp.c_fc.weight", 3, 1.1), "transformer.h.1.mlp.c_fc.product/MatMul", "in 128 of"),
        (weight_of("transformer.h.0.attn.c_proj.bias", 0, 1.0), "transformer.h.0.attn.c_proj/Add", "in 1 of 32"),
        (late_epsilon, "transformer.h.1.ln_2/LayerNormalization", "epsilon is 0.01, the config says 1e-05"),
        (mask_ignored, "everything", ""),
    ],
)
def test_the_node_is_named_with_what_is_wrong(
    plant: Callable[[onnx.ModelProto], None], node: str, what: str, tiny: Any, reference: Reference, tmp_path: Path
) -> None:
    model = onnx.load(tiny["fused"])
    plant(model)
    found = explained(model, reference, tmp_path)
    assert (found.kind, found.node) == (NODE, node)
    assert what in " ".join(found.what)
    assert f"node: {node}" in "\n".join(lines(found))


def test_a_weight_is_shown_on_one_token_and_padding_on_two(tiny: Any, reference: Reference, tmp_path: Path) -> None:
    model = onnx.load(tiny["fused"])
    weight_of("transformer.h.0.mlp.c_proj.weight", 5, 2.0)(model)
    found = explained(model, reference, tmp_path)
    assert found.input is not None
    assert np.shape(found.input["ids"]) == (1, 1)
    model = onnx.load(tiny["fused"])
    mask_ignored(model)
    found = explained(model, reference, tmp_path)
    assert found.input is not None
    assert sorted(np.ravel(found.input["mask"])) != [1] * np.size(found.input["mask"]), "without padding nothing fails"


def test_the_error_is_told_apart_from_what_was_carried_in(tiny: Any, reference: Reference, tmp_path: Path) -> None:
    """Two faults: the first node named has no error before it, and its own error is what the truth makes of it."""
    model = onnx.load(tiny["fused"])
    weight_of("transformer.h.0.mlp.c_fc.weight", 3, 1.5)(model)
    weight_of("transformer.h.1.mlp.c_proj.weight", 4, 1.5)(model)
    found = explained(model, reference, tmp_path)
    assert found.node == "transformer.h.0.mlp.c_fc.product/MatMul"
    assert "transformer.h.1.mlp.c_proj.product/MatMul" in found.also
    assert found.errors is not None
    assert found.errors["carried in"]["relative"] < 1e-6
    assert found.errors["of its own"]["from_reference"]["relative"] > 1e-3
    assert set(found.also) == {
        "transformer.h.1.mlp.c_proj.product/MatMul",
        "transformer.h.0.mlp.c_fc/Add",
    }, "the other fault and what reads the first, but nothing else that only carries its error"


def test_a_cache_that_is_wrong_is_shown_in_two_calls(tiny: Any, reference: Reference, tmp_path: Path) -> None:
    model = onnx.load(tiny["fused"])
    rename(model, {"present.1.key": "present.1.value", "present.1.value": "present.1.key"})
    found = explained(model, reference, tmp_path, pieces=(4, 3, 1, 1, 1, 1))
    assert found.node == "present.1.key/Concat"
    assert found.input is not None
    assert (found.input["pieces"], np.shape(found.input["ids"])) == ([1, 1], (1, 2))
    assert found.step == 0, "the first call's present is wrong already"


@pytest.fixture(scope="module")
def traced(tiny: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Optimum's own export of the same checkpoint: nodes have the names that a tracer gives."""
    return stock_export.export(tiny["checkpoint"], tmp_path_factory.mktemp("traced"))


@stock_export.missing
def test_a_traced_graph_is_located_by_scopes_parameters_and_values(
    traced: Path, reference: Reference, tmp_path: Path
) -> None:
    for plant, node in (
        (weight_of("transformer.h.1.attn.c_attn.bias", 7, 3.0), "/transformer/h.1/attn/c_attn/Gemm"),
        (_no_scale, "/transformer/h.1/attn/Mul"),
    ):
        model = onnx.load(traced)
        plant(model)
        assert explained(model, reference, tmp_path).node == node


def _no_scale(model: onnx.ModelProto) -> None:
    node = next(n for n in model.graph.node if n.name == "/transformer/h.1/attn/Mul")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(1, np.float32), "no_scale"))
    node.input[1] = "no_scale"


def test_names_that_tell_nothing_leave_weights_and_the_cache(tiny: Any, reference: Reference, tmp_path: Path) -> None:
    """A graph whose nodes, values and weights have numbers for names: known by the weights' values."""
    model = onnx.load(tiny["standard"])
    name = "transformer.h.1.mlp.c_fc.bias"
    store(model, name, weight(model, name) + np.float32(0.01))
    ports = {port.name for side in (model.graph.input, model.graph.output) for port in side} | {"num_logits_to_keep"}
    names: dict[str, str] = {"": ""} | {port: port for port in ports}
    place = next(i for i, n in enumerate(model.graph.node) if name in n.input)
    for tensor in model.graph.initializer:
        tensor.name = names.setdefault(tensor.name, f"v{len(names)}")
    for i, node in enumerate(model.graph.node):
        node.name = f"n{i}"
        for side in (node.input, node.output):
            for at, value in enumerate(side):
                side[at] = names.setdefault(value, f"v{len(names)}")
    found = explained(model, reference, tmp_path)
    assert found.node is not None
    assert abs(int(found.node[1:]) - place) <= 10, "within the activation that follows"
    assert f"n{place}" in found.names
    assert "one of" in found.precision


def test_a_graph_that_stops_is_explained_by_the_node_that_stopped(
    tiny: Any, reference: Reference, tmp_path: Path
) -> None:
    model = onnx.load(tiny["fused"])
    node = made_by(model, "transformer.wpe")
    far = onnx.numpy_helper.from_array(np.array(1000, np.int64), "far")
    model.graph.initializer.append(far)
    insert(model, node, helper.make_node("Add", ["position_ids", "far"], ["too_far"]))
    node.input[1] = "too_far"
    found = explained(model, reference, tmp_path, figure=None)
    assert (found.kind, found.node, found.op_type) == (RUN, "transformer.wpe/Gather", "Gather")


@stock_export.missing
def test_a_clean_graph_has_no_fault(tiny: Any, traced: Path, reference: Reference, tmp_path: Path) -> None:
    """Nothing deviates, whatever the input; in both forms, and in Optimum's."""
    for path in (tiny["fused"], tiny["standard"], traced):
        for pieces in ((11,), (5, 3, 1)):
            found = explained(onnx.load(path), reference, tmp_path, pieces=pieces)
            assert (found.kind, found.node, found.what[0][:9]) == (NOTHING, None, "each node")
