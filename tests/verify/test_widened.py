"""Products with codes as products with numbers: what the operator itself makes of them, whatever its attributes say."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from model.session import open_session, options
from verify.candidate import widened
from verify.candidate.widened import widen
from verify.check import Array, largest

DEPTH, WIDTH, BLOCK = 96, 24, 32
BLOCKS = DEPTH // BLOCK


def product(bits: int, *, zero_points: bool = False, bias: bool = False, stored: bool = True) -> onnx.ModelProto:
    """A graph of one product of x float32 [1, rows, DEPTH] with random codes, which are an input if not `stored`."""
    random = np.random.default_rng(bits)
    operands: dict[str, Array] = {
        "codes": random.integers(0, 256, (WIDTH, BLOCKS, BLOCK * bits // 8)).astype(np.uint8),
        "scales": random.uniform(0.01, 0.02, WIDTH * BLOCKS).astype(np.float32),
    }
    names = ["x", *operands]
    if zero_points or bias:
        operands["zeros"] = random.integers(0, 256, WIDTH * -(-BLOCKS * bits // 8)).astype(np.uint8)
        names.append("zeros" if zero_points else "")
    if bias:
        operands["bias"] = random.normal(size=WIDTH).astype(np.float32)
        names += ["", "bias"]
    node = helper.make_node(
        "MatMulNBits", names, ["y"], "layer", domain="com.microsoft", K=DEPTH, N=WIDTH, bits=bits, block_size=BLOCK
    )
    codes = operands["codes"]
    port = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node],
        "one",
        [
            port("x", TensorProto.FLOAT, [1, None, DEPTH]),
            *([] if stored else [port("codes", TensorProto.UINT8, codes.shape)]),
        ],
        [port("y", TensorProto.FLOAT, [1, None, WIDTH])],
        [
            numpy_helper.from_array(array, name)
            for name, array in operands.items()
            if name in names and (stored or name != "codes")
        ],
    )
    versions = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=versions, ir_version=10)


def answer(model: onnx.ModelProto, matrices: dict[str, Array] | None = None) -> Array:
    own = options()
    values = {name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in (matrices or {}).items()}
    if values:
        own.add_external_initializers(list(values), list(values.values()))
    x = np.random.default_rng(0).normal(size=(1, 5, DEPTH)).astype(np.float32)
    (found,) = open_session(model.SerializeToString(), own).run(None, {"x": x})
    return np.asarray(found)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("zero_points", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_the_results_are_the_same(bits: int, zero_points: bool, bias: bool) -> None:
    model = product(bits, zero_points=zero_points, bias=bias)
    before = answer(model)
    matrices = widen(model, open_session)
    assert [array.shape for array in matrices.values()] == [(DEPTH, WIDTH)]
    assert [node.op_type for node in model.graph.node] == ["MatMul", *(["Add"] if bias else [])]
    assert model.graph.node[0].name == "layer"
    assert np.abs(before).max() > 0.5
    assert largest(answer(model, dict(matrices)), before) < 1e-4


def test_what_is_wrong_with_a_node_stays() -> None:
    right, wrong = product(4), product(4)
    (scales,) = (entry for entry in wrong.graph.initializer if entry.name == "scales")
    changed = numpy_helper.to_array(scales).copy()
    changed[7] *= 1.02
    scales.CopyFrom(numpy_helper.from_array(changed, "scales"))
    before = largest(answer(right), answer(wrong))
    found = [answer(model, dict(widen(model, open_session))) for model in (right, wrong)]
    assert before > 1e-3
    assert abs(largest(*found) - before) < 1e-5


def test_what_is_not_stored_or_too_large_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    computed = product(4, stored=False)
    assert widen(computed, open_session) == {}
    assert [node.op_type for node in computed.graph.node] == ["MatMulNBits"]
    monkeypatch.setattr(widened, "LARGEST", 4 * (DEPTH * WIDTH + DEPTH * DEPTH) - 1)
    large = product(4)
    assert widen(large, open_session) == {}
    assert large == product(4)
