from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from model.contract import Dimensions
from pipeline.errors import InputError, RecipeError
from quantize.numerics import blocks
from quantize.numerics.blocks import Form
from quantize.numerics.normal_float import dequantize, quantize
from quantize.rewrite.graph import clean, ports
from quantize.schemes import nf4, rtn
from quantize.schemes.nf4 import Options
from tests.support.tiny_graph import ALIGNED, DIMS, LEVELS, UNTIED, batch, context, run, session, tiny_model


def quantized(model: onnx.ModelProto, options: Options, dims: Dimensions) -> onnx.ModelProto:
    copy = ir.from_proto(model)
    nf4.apply(copy, options, context(dims))
    clean(copy)
    return ir.to_proto(copy)


def rounded(model: onnx.ModelProto, options: Options, dims: Dimensions) -> onnx.ModelProto:
    """The fp32 model with every weight replaced by what its quantized form stands for."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        weight = numpy_helper.to_array(tensor)
        if weight.ndim != 2 or tensor.name == "wpe.weight":
            continue
        rows = np.ascontiguousarray(weight if tensor.name == "wte.weight" else weight.T)
        if dims.vocabulary in weight.shape:
            table = rtn.solve(rows, Form(8, options.embedding_block, symmetric=True))
            back = blocks.dequantize(table)
        else:
            back = dequantize(quantize(rows, block=options.block))
        back = back if tensor.name == "wte.weight" else back.T
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(back), tensor.name))
    return copy


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dims", [DIMS, UNTIED, ALIGNED])
@pytest.mark.parametrize("block", [16, 64])
def test_the_graph_computes_with_the_rounded_weights(block: int, dims: Dimensions, level: str) -> None:
    model, options = tiny_model(dims), Options(block=block, accuracy_level=0)
    ids, mask = batch(dims)
    result = quantized(model, options, dims)
    onnx.checker.check_model(result, full_check=True)
    assert ports(ir.from_proto(result)) == ports(ir.from_proto(model))
    wanted, _ = run(session(rounded(model, options, dims)), ids, mask)
    np.testing.assert_allclose(run(session(result, level), ids, mask)[0], wanted, atol=2e-4)


def test_body_and_table_are_quantized_and_no_float_copy_is_left() -> None:
    result = quantized(tiny_model(), Options(), DIMS)
    kinds = [node.op_type for node in result.graph.node if node.domain]
    assert set(kinds) == {"MatMulBnb4", "MatMulNBits"}
    assert kinds.count("MatMulBnb4") == 4 * DIMS.layers
    used = {name for node in result.graph.node for name in node.input}
    assert {tensor.name for tensor in result.graph.initializer} <= used
    floats = {t.name for t in result.graph.initializer if t.data_type == onnx.TensorProto.FLOAT and len(t.dims) == 2}
    assert floats == {"wpe.weight", "wte.weight.scales"}


def test_the_table_can_stay_float() -> None:
    result = quantized(tiny_model(), Options(embedding_bits=0), DIMS)
    assert "wte.weight" in {tensor.name for tensor in result.graph.initializer}
    assert "MatMulNBits" not in {node.op_type for node in result.graph.node}


def test_a_weight_that_is_not_finite_is_refused_by_name() -> None:
    model = tiny_model()
    tensor = next(t for t in model.graph.initializer if t.name == "h.0.in.weight")
    tensor.CopyFrom(numpy_helper.from_array(np.full((40, 160), np.nan, np.float32), tensor.name))
    with pytest.raises(InputError, match=r"h\.0\.in\.weight"):
        quantized(model, Options(), DIMS)


@pytest.mark.parametrize(
    "options", [Options(block=48), Options(accuracy_level=9), Options(embedding_bits=3), Options(embedding_block=8)]
)
def test_an_option_that_the_runtime_has_no_kernel_for_is_refused(options: Options) -> None:
    with pytest.raises(RecipeError, match="not possible"):
        options.check("recipe")
