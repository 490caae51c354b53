"""The graph in float32 that rows are compared in: nothing of it rounds, and it computes what the file means."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16

from pipeline.variants import model_file
from verify.candidate.session import Candidate, positions_of
from verify.candidate.unrounded import remove_rounding
from verify.check import Array, largest

IDS = np.array([[5, 900, 17, 3, 1999, 42, 42, 8]], np.int64)


def logits(candidate: Candidate) -> Array:
    mask = np.ones_like(IDS)
    return candidate.forward(IDS, mask, positions_of(mask)).logits


def with_a_present_in_float16(model: onnx.ModelProto) -> onnx.ModelProto:
    name = next(port.name for port in model.graph.output if port.name.endswith(".0.value"))
    for node in model.graph.node:
        node.output[:] = ["exact" if output == name else output for output in node.output]
        node.input[:] = ["exact" if value == name else value for value in node.input]
    casts = [
        helper.make_node("Cast", [value], [made], to=to)
        for value, made, to in (("exact", "half", TensorProto.FLOAT16), ("half", name, TensorProto.FLOAT))
    ]
    model.graph.node.extend(casts)
    return model


def decoded(candidate: Candidate, other: Candidate) -> float:
    """Largest difference of the second half's logits, after the first half's cache."""
    found = []
    for one in (candidate, other):
        mask = np.ones_like(IDS)
        half = IDS.shape[1] // 2
        first = one.forward(IDS[:, :half], mask[:, :half], positions_of(mask)[:, :half])
        found.append(one.forward(IDS[:, half:], mask, positions_of(mask)[:, half:], first.cache).logits)
    return largest(*found)


def types_in(model: onnx.ModelProto) -> set[int]:
    nodes = [entry for node in model.graph.node for entry in node.attribute if entry.name == "to"]
    return {tensor.data_type for tensor in model.graph.initializer} | {entry.i for entry in nodes}


@pytest.mark.parametrize("variant", ["fp16", "q8", "uint8", "q4", "q4f16", "bnb4"])
def test_what_rounds_is_the_same_but_for_its_rounding(build: Path, variant: str) -> None:
    path = build / "embedded" / variant / model_file(variant)
    candidate = Candidate(path, "enable_all")
    plain = candidate.without_rounding
    assert plain is not None
    assert largest(logits(plain), logits(candidate)) < 0.3
    if variant != "fp16":  # without kernels for float16, as on x86, onnxruntime computes all of it in float32
        assert largest(logits(plain), logits(candidate)) > 0
    assert largest(logits(Candidate(path, "disable_all").without_rounding or candidate), logits(plain)) < 6.3e-5
    model = onnx.load(path)
    assert remove_rounding(model, path.parent)
    assert TensorProto.FLOAT16 not in types_in(model)
    assert not remove_rounding(model, path.parent)


@pytest.mark.parametrize("variant", ["fp32", "int8"])
def test_what_does_not_round_has_no_other_graph(build: Path, variant: str) -> None:
    assert Candidate(build / "embedded" / variant / model_file(variant), "enable_all").without_rounding is None


def test_float16_that_the_twin_does_not_have_stays(build: Path, tmp_path: Path) -> None:
    """One layer's cache has been float16: of q8, only the comparison without rounding to int8 can see that."""
    clean = build / "embedded" / "q8" / model_file("q8")
    planted = tmp_path / "model.onnx"
    onnx.save(with_a_present_in_float16(onnx.load(clean)), planted)
    twin = Candidate(clean, "enable_all")
    own = Candidate(planted, "enable_all", twin=twin)
    (ours, theirs, widened) = (own.without_rounding_of_twin, twin.without_rounding, own.without_rounding)
    assert ours is not None and theirs is not None and widened is not None  # noqa: PT018
    assert decoded(theirs, theirs) == decoded(widened, theirs) == 0
    assert decoded(ours, theirs) > 6.3e-5
    half = build / "embedded" / "fp16" / model_file("fp16")
    assert Candidate(half, "enable_all", twin=Candidate(half, "enable_all")).without_rounding_of_twin is not None


def test_somebody_elses_float16_with_its_weights_beside_it_is_widened_too(build: Path, tmp_path: Path) -> None:
    """Inputs and the cache are float16 there, and so are all operators; weights lie in a file of their own."""
    exact = onnx.load(build / "embedded" / "fp32" / model_file("fp32"))
    for tensor in exact.graph.initializer:  # all numbers that float16 changes are changed before
        if tensor.data_type == TensorProto.FLOAT:
            narrow = numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(narrow.astype(np.float32), tensor.name))
    clean = tmp_path / "exact.onnx"
    onnx.save(exact, clean)
    model = convert_float_to_float16(exact, disable_shape_infer=True, op_block_list=[])
    path = tmp_path / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=1024)
    assert TensorProto.FLOAT16 in {port.type.tensor_type.elem_type for port in model.graph.input}
    plain = Candidate(path, "enable_all").without_rounding
    assert plain is not None
    assert {port.type for port in plain.session.get_inputs()} == {"tensor(int64)", "tensor(float)"}
    assert largest(logits(plain), logits(Candidate(clean, "enable_all"))) < 6.3e-5


def test_float16_is_found_within_branches_and_constants(tmp_path: Path) -> None:
    half = numpy_helper.from_array(np.array([2.0], np.float16), "two")
    inner = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value=half), helper.make_node("Mul", ["c", "c"], ["four"])],
        "branch", [], [helper.make_tensor_value_info("four", TensorProto.FLOAT16, [1])],
    )  # fmt: skip
    nodes = [helper.make_node("If", ["yes"], ["y"], then_branch=inner, else_branch=inner)]
    port = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "outer", [port("yes", TensorProto.BOOL, [])], [port("y", TensorProto.FLOAT16, [1])]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    assert remove_rounding(model, tmp_path)
    onnx.checker.check_model(model, full_check=True)
    assert b"four" in model.SerializeToString()
    assert onnx.shape_inference.infer_shapes(model).graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT
