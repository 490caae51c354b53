"""Tell from a graph how its weights are stored: which of the variants' names a file of another program would have."""

from __future__ import annotations

import math
from typing import Any

from verify.candidate import operators

BITS = ("MatMulNBits", "GatherBlockQuantized")  # operators with an attribute for the width of their codes
CODES = {"INT8": 8, "UINT8": 8, "INT4": 4, "UINT4": 4, "INT2": 2, "UINT2": 2}  # bits by type of a weight
LARGE = 1024  # numbers from which an initializer is a weight


def variant_of(model: Any) -> str:
    """Return the variant whose usual tolerances suit an onnx model: by its narrowest products, then by its floats."""
    from onnx import TensorProto

    types = {
        tensor.name: TensorProto.DataType.Name(tensor.data_type)
        for tensor in model.graph.initializer
        if math.prod(tensor.dims) >= LARGE
    }
    widths = {bits for node in operators.nodes(model.graph) for bits in _bits(node, types)}
    float16 = "FLOAT16" in types.values() and "FLOAT" not in types.values()
    if widths and min(widths) <= 4:
        return "q4f16" if float16 else "q4"
    if widths:
        return "q8"
    return "fp16" if "FLOAT16" in types.values() else "fp32"


def _bits(node: Any, types: dict[str, str]) -> set[int]:
    """The bits of each code among a node's weights; codes of less than a byte lie packed in bytes."""
    stored = {CODES[types[name]] for name in node.input if types.get(name) in CODES}
    if not stored or node.op_type not in (*BITS, "MatMulBnb4"):
        return stored
    return {next((attribute.i for attribute in node.attribute if attribute.name == "bits"), 4)}
