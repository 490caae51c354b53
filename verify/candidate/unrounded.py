"""The same graph in float32: no product rounds its activations to int8, nothing is rounded to float16.

Two runs of one file that only differ in the order of their sums differ in the last bits of float32. Where activations
are rounded to fewer bits, such a difference now and then rounds one of them the other way, which is a whole step: then
no bound tells an order of sums from a fault. The graph without these roundings has the same nodes and weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnx.external_data_helper import load_external_data_for_tensor, uses_external_data

FLOAT = 1  # the accuracy_level of a product that does not round its activations
ELEMENT_TYPES = ("to", "dtype")  # attributes that name the type of a node's result


def has_float16(model: onnx.ModelProto) -> bool:
    """Return whether anything in a model is float16."""
    return any(True for _ in _float16(model))


def unrounded(path: Path, *, float16: bool = True) -> onnx.ModelProto | None:
    """Return the model of a file without its roundings, external data left where it lies; None if nothing rounds.

    `float16` False leaves what rounds to float16.
    """
    model = onnx.load(path, load_external_data=False)
    return model if remove_rounding(model, path.parent, float16=float16) else None


def remove_rounding(model: onnx.ModelProto, directory: Path, *, float16: bool = True) -> bool:
    """Change a model in place; False if nothing in it rounds, or only to float16 and `float16` says to leave that.

    External float16 data is read from `directory`.
    """
    rounding = [
        entry
        for node in _nodes(model)
        for entry in node.attribute
        if entry.name == "accuracy_level" and entry.i not in (0, FLOAT)
    ]
    for entry in rounding:
        entry.i = FLOAT
    places = _float16(model) if float16 else ()
    return any([bool(rounding), *(_widen(place, directory) for place in places)])


def _widen(place: TensorProto | onnx.AttributeProto | onnx.TypeProto.Tensor, directory: Path) -> bool:
    if isinstance(place, TensorProto):
        if uses_external_data(place):
            load_external_data_for_tensor(place, str(directory))
        place.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(place).astype(np.float32), place.name))
    elif isinstance(place, onnx.AttributeProto):
        place.i = TensorProto.FLOAT
    else:
        place.elem_type = TensorProto.FLOAT
    return True


def _float16(model: onnx.ModelProto) -> Iterator[TensorProto | onnx.AttributeProto | onnx.TypeProto.Tensor]:
    """Everything that says float16: stored numbers, types of values, types that nodes are told to give."""
    for graph in _graphs(model):
        yield from (tensor for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT16)
        for value in (*graph.input, *graph.output, *graph.value_info):
            if value.type.tensor_type.elem_type == TensorProto.FLOAT16:
                yield value.type.tensor_type
    for node in _nodes(model):
        for entry in node.attribute:
            if entry.name in ELEMENT_TYPES and entry.i == TensorProto.FLOAT16:
                yield entry
            tensors = [entry.t, *entry.tensors] if entry.HasField("t") else entry.tensors
            yield from (tensor for tensor in tensors if tensor.data_type == TensorProto.FLOAT16)


def _graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    waiting = [model.graph]
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            waiting += [inner for entry in node.attribute for inner in (entry.g, *entry.graphs) if inner.node]


def _nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    for graph in _graphs(model):
        yield from graph.node
    for function in model.functions:
        yield from function.node
