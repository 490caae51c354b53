"""Quantize a tiny graph by round to nearest."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from model.contract import Dimensions
from quantize.rewrite.graph import clean
from quantize.schemes import rtn
from quantize.schemes.rtn import Options
from tests.support.tiny_graph import DIMS, context


def quantized(model: onnx.ModelProto, options: Options, dims: Dimensions = DIMS) -> onnx.ModelProto:
    copy = ir.from_proto(model)
    rtn.apply(copy, options, context(dims))
    clean(copy)
    return ir.to_proto(copy)
