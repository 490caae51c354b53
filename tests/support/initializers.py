"""Weights of an ONNX file, read and replaced by name, and nodes put before others."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper


def weight(model: onnx.ModelProto, name: str) -> np.ndarray:
    (tensor,) = (t for t in model.graph.initializer if t.name == name)
    return numpy_helper.to_array(tensor).copy()


def store(model: onnx.ModelProto, name: str, value: np.ndarray) -> None:
    (tensor,) = (t for t in model.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(value, name))


def insert(model: onnx.ModelProto, before: onnx.NodeProto, *nodes: onnx.NodeProto) -> None:
    at = list(model.graph.node).index(before)
    for offset, node in enumerate(nodes):
        model.graph.node.insert(at + offset, node)
