"""python attention.py: write attention.onnx, one MultiHeadAttention of one head, beside this file."""  # noqa: INP001  # a folder to copy, not a package

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper

WIDTH = 8
PLACE = Path(__file__).parent / "attention.onnx"


def main() -> None:
    """Write the graph: query, key and value float32 [1, length, 8] in, what the head found out."""
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, "length", WIDTH])
        for name in ("query", "key", "value")
    ]
    output = helper.make_tensor_value_info("found", TensorProto.FLOAT, [1, "length", WIDTH])
    node = helper.make_node(
        "MultiHeadAttention", ["query", "key", "value"], ["found"], domain="com.microsoft", num_heads=1
    )
    graph = helper.make_graph([node], "attention", inputs, [output])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), PLACE)


if __name__ == "__main__":
    main()
