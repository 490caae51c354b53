"""A quantized weight that becomes float32 again when a session starts: the file is small, the arithmetic is float's.

onnxruntime folds what is computed from constants alone, so codes and scales are a matrix of numbers before the first
token, and everything after is the float32 graph. That is for runtimes without a kernel for products with codes:
onnxruntime-web's processor builds widen the whole matrix of a MatMulNBits at every call (decision 0018). Where nothing
is folded (ORT_DISABLE_ALL) every call pays for it here, too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from quantize.numerics import blocks
from quantize.rewrite.products import Spot, initializer
from quantize.rewrite.weights import Weight

BITS = (8,)
SIZES = (*blocks.SIZES, 512, 1024)  # no kernel limits them
SIGN = np.uint8(128)  # with its highest bit turned, a code whose zero point is 128 is a signed number


def expand(model: ir.Model, weight: Weight, quantized: blocks.Blocks) -> None:
    """Compute a weight's initializer from codes of 8 bits and scales; its readers stay as they are.

    The new initializers are `<name>.q8`, int8 or, with zero points, uint8, `<name>.scales` float32 and
    `<name>.zero_points` uint8, cut into blocks along the axis that products add up.
    """
    if weight.name not in model.graph.initializers:
        return  # the other way to read it has been here
    site, stem = Spot(model, model.graph[0], weight.name), weight.stem
    rows, count = quantized.scales.shape
    width = quantized.columns if count == 1 else quantized.padded  # one block needs no padding
    every = np.ascontiguousarray(quantized.codes[:, :width])
    order = (0, 1, 2) if weight.transposed else (1, 2, 0)  # the blocked axis is the last of [N, K], the first of [K, N]

    def stored(name: str, array: np.ndarray[Any, np.dtype[Any]]) -> ir.Value:
        cut = array.reshape(rows, count, -1).transpose(order)
        return initializer(model, f"{stem}.{name}", np.ascontiguousarray(cut))

    if quantized.form.symmetric:
        numbers = site.op("Cast", "numbers", stored("q8", (every ^ SIGN).view(np.int8)), to=ir.DataType.FLOAT)
    else:
        codes = site.op("Cast", "codes", stored("q8", every), to=ir.DataType.FLOAT)
        zeros = site.op("Cast", "zeros", stored("zero_points", quantized.zeros), to=ir.DataType.FLOAT)
        numbers = site.op("Sub", "numbers", codes, zeros)
    values = site.op("Mul", "values", numbers, stored("scales", quantized.scales))
    shape = (rows, width) if weight.transposed else (width, rows)
    whole = site.op("Reshape", "whole", values, site.numbers(f"{stem}.shape", shape))
    if width != quantized.columns:
        bounds = {"start": 0, "end": quantized.columns, "axis": int(weight.transposed)}
        whole = site.op("Slice", "cut", whole, *(site.numbers(f"{stem}.{name}", [at]) for name, at in bounds.items()))
    weight.value.replace_all_uses_with(whole)
    del model.graph.initializers[weight.name]
    whole.name = weight.name
