"""Copies of a variant that are no fault: last bits of its weights moved, as another program's rounding may do.

Of a quantized graph every scale moves, found by what it does in the graph. A graph without scales moves by its float32
weights; float16 ones keep theirs, for a float16's last bit is as large as that variant's whole error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from verify.check import Array

SCALES = {"MatMulNBits": 2, "MatMulBnb4": 2}  # the input that is the scales
PASSED_ON = ("Unsqueeze", "Cast")  # what looked up scales go through before they multiply the codes
CODES = (TensorProto.INT8, TensorProto.UINT8)
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)


def write(clean: Path, seed: int, path: Path) -> None:
    """Write the copy of a variant's graph to another file."""
    path.write_bytes(moved(onnx.load(clean), seed).SerializeToString())


def moved(model: onnx.ModelProto, seed: int) -> onnx.ModelProto:
    """A copy in which every scale, or else every float32 weight, is moved by -1, 0 or +1 ulp of its own type.

    Zeros and infinities stay, and what is finite stays finite.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    names = scales(model.graph) or weights(model.graph)
    generator = np.random.default_rng(seed)
    for entry in result.graph.initializer:
        if entry.name in names and entry.data_type in FLOATS:
            entry.CopyFrom(numpy_helper.from_array(_moved(numpy_helper.to_array(entry), generator), entry.name))
    return result


def scales(graph: onnx.GraphProto) -> set[str]:
    """The values that multiply codes: scales of block-quantized products, of looked-up rows, and of whole matrices."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    makers = {name: node for node in graph.node for name in node.output}
    codes = {entry.name for entry in graph.initializer if entry.data_type in CODES}
    of_products = {node.input[SCALES[node.op_type]] for node in graph.node if node.op_type in SCALES}
    gathers = [node for node in graph.node if node.op_type == "Gather"]
    of_lookups = {node.input[0] for node in gathers if _multiplies(node.output[0], readers)}
    products = [node for node in graph.node if node.op_type == "Mul" and node.input[1] not in makers]
    return of_products | of_lookups | {node.input[1] for node in products if _stored(node.input[0], makers) in codes}


def weights(graph: onnx.GraphProto) -> set[str]:
    """The float32 initializers that are more than one number."""
    return {t.name for t in graph.initializer if t.data_type == TensorProto.FLOAT and np.prod(t.dims) > 1}


def _stored(value: str, makers: Mapping[str, onnx.NodeProto]) -> str:
    """Return what a value is made of by changes of type, less its zero points."""
    while value in makers and makers[value].op_type in ("Cast", "Sub"):
        value = makers[value].input[0]
    return value


def _multiplies(value: str, readers: Mapping[str, Sequence[onnx.NodeProto]]) -> bool:
    """Return whether a looked-up value is a factor of a product, after nothing but changes of its shape and type."""
    after = readers.get(value, ())
    while len(after) == 1 and after[0].op_type in PASSED_ON:
        after = readers.get(after[0].output[0], ())
    return len(after) == 1 and after[0].op_type == "Mul"


def _moved(values: Array, generator: np.random.Generator) -> Array:
    steps = generator.integers(-1, 2, values.shape)
    towards = np.where(steps > 0, np.inf, -np.inf).astype(values.dtype)
    with np.errstate(over="ignore"):  # beyond the largest number there is none, so it stays
        beside = np.nextafter(values, towards)
    return np.where((steps != 0) & (values != 0) & np.isfinite(values) & np.isfinite(beside), beside, values)
