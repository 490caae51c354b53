from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from model.architectures.llama import config as llama
from model.architectures.llama import standard, tiny
from model.contract import Dimensions, Port
from pipeline.errors import InputError, RecipeError
from quantize.rewrite.graph import clean, ports
from quantize.schemes import float16, rtn
from quantize.schemes.float16 import Options
from tests.support.random_source import RandomSource
from tests.support.tiny_graph import (
    ALIGNED,
    DIMS,
    LEVELS,
    UNTIED,
    Tiny,
    assemble,
    batch,
    context,
    run,
    session,
    tiny_model,
)

ALL_NARROW = Options(float32=())


def converted(model: onnx.ModelProto, options: Options = Options(), bits: int = 0) -> onnx.ModelProto:  # noqa: B008
    copy = ir.from_proto(model)
    if bits:
        dims = ALIGNED if copy.graph.outputs[1].shape[3] == ALIGNED.head_dim else DIMS  # type: ignore[index]
        rtn.apply(copy, rtn.Options(bits=bits), context(dims))
    float16.apply(copy, options, context(DIMS))
    clean(copy)
    result = ir.to_proto(copy)
    onnx.checker.check_model(result, full_check=True)
    return result


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("options", [Options(), ALL_NARROW])
@pytest.mark.parametrize("dims", [DIMS, UNTIED])
def test_logits_stay_near_and_the_ports_stay_float32(dims: Dimensions, options: Options, level: str) -> None:
    model = tiny_model(dims)
    ids, mask = batch(dims)
    result = converted(model, options)
    wanted, cache = run(session(model), ids, mask)
    got, grown = run(session(result, level), ids, mask)
    assert ports(ir.from_proto(result)) == ports(ir.from_proto(model))
    assert got.dtype == np.float32
    assert np.isfinite(got).all()  # the last row is padding throughout
    assert np.abs(got - wanted)[mask == 1].max() < 0.01 * np.abs(wanted).max()
    for name, value in cache.items():
        assert grown[name].dtype == np.float32
        np.testing.assert_allclose(grown[name], value, atol=0.02)


def test_weights_are_rounded_to_nearest_and_none_stays_float32() -> None:
    model = tiny_model()
    before = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    after = {t.name: numpy_helper.to_array(t) for t in converted(model).graph.initializer}
    for name, array in after.items():
        if before[name].ndim == 2 and before[name].dtype == np.float32:
            np.testing.assert_array_equal(array, before[name].astype(np.float16))
    large = [name for name, array in after.items() if array.dtype == np.float32 and array.size > DIMS.hidden * 4]
    assert large == []


def test_products_with_weights_are_float16_and_the_named_operators_and_what_only_these_feed_float32() -> None:
    result = onnx.shape_inference.infer_shapes(converted(tiny_model()), strict_mode=True)
    types = {info.name: info.type.tensor_type.elem_type for info in result.graph.value_info}
    weights = {tensor.name for tensor in result.graph.initializer}
    weights |= {name for node in result.graph.node if node.input and node.input[0] in weights for name in node.output}
    for node in result.graph.node:
        kind = types.get(node.output[0])
        if node.op_type == "MatMul":
            assert kind == (TensorProto.FLOAT16 if weights.intersection(node.input) else TensorProto.FLOAT)
        if node.op_type in ("Softmax", "LayerNormalization", "Tanh", "Pow"):
            assert kind == TensorProto.FLOAT


def test_angles_of_positions_keep_their_digits() -> None:
    """A position beyond 2048 is no float16, nor is the cosine of its angle."""
    sizes = Dimensions(1, 32, 4, 2, 8, 4096, 40, 0, tied=True)
    model = standard.build(RandomSource(llama, tiny.config(sizes, 39)))
    model.graph.name = "main"
    result = onnx.shape_inference.infer_shapes(converted(ir.to_proto(model)), strict_mode=True)
    types = {info.name: info.type.tensor_type.elem_type for info in result.graph.value_info}
    wide = (
        "places",
        "angles",
        "angles.half_turns",
        "circle.ratio",
        "cosine.both",
        "sine.signed",
        "model.layers.0.self_attn.query",
    )
    assert {types[name] for name in wide} == {TensorProto.FLOAT}
    assert types["model.layers.0.self_attn.q_proj"] == TensorProto.FLOAT16


def test_cache_and_full_pass_agree() -> None:
    ids, mask = batch()
    runner = session(converted(tiny_model()))
    full, _ = run(runner, ids, mask)
    _, cache = run(runner, ids[:, :5], mask[:, :5])
    rest, _ = run(runner, ids[:, 5:], mask, cache)
    np.testing.assert_allclose(rest[:2], full[:2, 5:], atol=0.02)


@pytest.mark.parametrize("bits", [4, 8])
def test_quantized_then_float16_is_the_same_at_every_optimization_level(bits: int) -> None:
    """onnxruntime 1.31.1 ignores scales that it casts at run time; our casts keep it from casting them."""
    model = tiny_model(ALIGNED)
    ids, mask = batch(ALIGNED)
    copy = ir.from_proto(model)
    rtn.apply(copy, rtn.Options(bits=bits), context(ALIGNED))
    wanted, _ = run(session(copy), ids, mask)
    result = converted(model, bits=bits)
    for level in ("ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL"):
        got, _ = run(session(result, level), ids, mask)
        assert np.abs(got - wanted)[mask == 1].max() < 0.03 * np.abs(wanted).max(), level
    scales = {t.name: t.data_type for t in result.graph.initializer if t.name.endswith(".scales")}
    assert scales
    assert set(scales.values()) == {TensorProto.FLOAT16}


@pytest.mark.parametrize("large", [65505.0, 1e30, np.inf, np.nan])
def test_a_weight_beyond_float16_is_refused_by_name(large: float) -> None:
    model = tiny_model()
    tensor = next(t for t in model.graph.initializer if t.name == "h.0.in.weight")
    weight = numpy_helper.to_array(tensor).copy()
    weight[0, 0] = large
    tensor.CopyFrom(numpy_helper.from_array(weight, tensor.name))
    with pytest.raises(InputError, match=r"h\.0\.in\.weight"):
        converted(model)


def test_the_largest_float16_is_not_refused_and_small_weights_round() -> None:
    graph = Tiny(DIMS, [], {})
    graph.op("MatMul", "x", graph.constant(np.array([[-65504.0, 1e-9], [6.1e-5, 0.0]], np.float32), "w"), name="y")
    result = converted(assemble(graph, [Port("x", "float32", ("n", 2))], [Port("y", "float32", ("n", 2))]))
    (weight,) = [numpy_helper.to_array(tensor) for tensor in result.graph.initializer]
    np.testing.assert_array_equal(weight, np.array([[-65504.0, 0.0], [6.1e-5, 0.0]], np.float16))


def test_constants_casts_and_operators_without_float16_are_converted() -> None:
    graph = Tiny(DIMS, [], {})
    fill = graph.op("ConstantOfShape", np.array([2]), value=helper.make_tensor("v", TensorProto.FLOAT, [1], [3.0]))
    zeros = graph.op("ConstantOfShape", np.array([2]))
    one = graph.op("Constant", value_float=1.0)
    two = graph.op("Constant", value=helper.make_tensor("v", TensorProto.FLOAT, [2], [2.0, 4.0]))
    steps = graph.op("Range", graph.op("Constant", value_float=0.0), graph.op("Constant", value_float=2.0), one)
    counted = graph.op("Abs", "n")
    cast = graph.op("Cast", graph.op("Cast", counted, to=TensorProto.FLOAT), to=TensorProto.FLOAT)
    wide = graph.op("Add", cast, zeros)
    graph.op("Sum", fill, one, two, steps, cast, wide, "x", name="y")
    ports_in = [Port("n", "int64", (2,)), Port("x", "float32", (2,))]
    result = converted(assemble(graph, ports_in, [Port("y", "float32", (2,))]))
    feed = {"n": np.array([10, 20]), "x": np.array([0.5, 0.25], np.float32)}
    for level in LEVELS:
        np.testing.assert_array_equal(session(result, level).run(None, feed)[0], [26.5, 49.25])
    casts = [node for node in result.graph.node if node.op_type == "Cast" and node.input[0] == counted]
    assert [node.attribute[0].i for node in casts] == [TensorProto.FLOAT16]
    types = {
        info.name: info.type.tensor_type.elem_type
        for info in onnx.shape_inference.infer_shapes(result).graph.value_info
    }
    assert all(types.get(n.input[0]) != n.attribute[0].i for n in result.graph.node if n.op_type == "Cast")


def test_an_input_that_is_only_measured_is_not_cast() -> None:
    graph = Tiny(DIMS, [], {})
    graph.op("Shape", "x", name="y")
    result = converted(assemble(graph, [Port("x", "float32", ("n",))], [Port("y", "int64", (1,))]))
    assert [node.op_type for node in result.graph.node] == ["Shape"]


def test_unknown_operators_are_refused() -> None:
    graph = Tiny(DIMS, [], {})
    graph.op("Relu", "x", name="y")
    model = assemble(graph, [Port("x", "float32", ("n",))], [Port("y", "float32", ("n",))])
    model.graph.node[0].domain = "elsewhere"
    model.opset_import.append(helper.make_opsetid("elsewhere", 1))
    with pytest.raises(InputError, match=r"elsewhere\.Relu"):
        converted(model)
    with pytest.raises(RecipeError, match="Sofmax") as refusal:
        Options(float32=("Sofmax",)).check("recipe")
    assert "Softmax" in refusal.value.hint
    Options().check("recipe")


def test_the_operators_of_the_fused_graph_stay_float32_and_its_head_product_does_not() -> None:
    graph = Tiny(DIMS, [], {})
    gain, shift, bias = np.random.default_rng(0).standard_normal((3, 64)).astype(np.float32)
    total = graph.op("Add", "x", "x")
    normal = graph.op("LayerNormalization", total, gain, shift, axis=-1)
    wide = graph.op("FastGelu", normal, bias, domain="com.microsoft")
    weight = np.random.default_rng(1).standard_normal((5, 64)).astype(np.float32)
    graph.op("FusedMatMul", graph.op("Add", wide, total), weight, name="y", transB=1, domain="com.microsoft")
    ports_in = [Port("x", "float32", (1, "n", 64))]
    model = assemble(graph, ports_in, [Port("y", "float32", (1, "n", 5))])
    result = converted(model)
    x = np.random.default_rng(2).standard_normal((1, 3, 64)).astype(np.float32)
    for level in LEVELS:
        got, wanted = (session(m, level).run(None, {"x": x})[0] for m in (result, model))
        np.testing.assert_allclose(got, wanted, atol=0.05)
        assert np.abs(got - wanted).max() > 0
    kinds = [node.op_type for node in result.graph.node if any(name.endswith("/float16") for name in node.input)]
    narrow = [kind for kind in kinds if kind != "Cast"]
    assert narrow == ["FusedMatMul"]


def test_a_cache_is_not_cast_to_be_read() -> None:
    """Test what is new is widened instead: a cast of the cache would copy all of it at every token."""
    result = converted(tiny_model(ALIGNED), bits=4)
    past = [port.name for port in result.graph.input if port.name.startswith("past")]
    readers = {node.op_type for node in result.graph.node if set(node.input) & set(past)}
    assert readers == {"Concat"}
    makers = {node.op_type for node in result.graph.node for name in node.output if name.startswith("present")}
    assert makers == {"Concat"}
