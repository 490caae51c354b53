"""A table that is looked up and multiplied with, beside a linear layer."""

from __future__ import annotations

import numpy as np
import onnx

from model.contract import Dimensions, Port
from tests.support.tiny_graph import Array, Tiny, assemble


def table_model(table: Array, dims: Dimensions, *, bias: bool = False) -> onnx.ModelProto:
    """Rows of `table` [rows, columns] looked up (`rows`), products with it (`logits`), and with eight rows (`y`)."""
    count, columns = table.shape
    graph = Tiny(dims, [], {})
    stored = graph.constant(table, "table")
    graph.op("Gather", stored, "input_ids", name="rows")
    turned = graph.op("Transpose", stored, perm=[1, 0])
    if bias:
        graph.op("Add", graph.op("MatMul", "x", turned), np.arange(count, dtype=np.float32), name="logits")
    else:
        graph.op("MatMul", "x", turned, name="logits")
    graph.op("MatMul", "x", table[:8].T.copy(), name="y")
    inputs = [Port("input_ids", "int64", ("batch", "length")), Port("x", "float32", ("n", columns))]
    shapes = {"rows": ("batch", "length", columns), "logits": ("n", count), "y": ("n", 8)}
    return assemble(graph, inputs, [Port(name, "float32", shape) for name, shape in shapes.items()])
