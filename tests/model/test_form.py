"""The form of a file: the same for models of other sizes, another for whatever chooses another kernel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from model.form import digest_of, form_of


def made(path: Path, change: Callable[[Any], None] | None = None, width: int = 32) -> tuple[str, ...]:
    """The form of a small graph, written to a file after a change."""
    product = onnx.helper.make_node(
        "MatMulNBits", ["x", "codes", "scales", "", "", "bias"], ["y"], domain="com.microsoft", bits=4, K=width, N=8
    )
    tensors: dict[str, np.ndarray[Any, Any]] = {
        "codes": np.zeros((8, width // 32, 16), np.uint8),
        "scales": np.zeros((8, width // 32), np.float32),
        "bias": np.zeros(8, np.float32),
    }
    ports = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in ("x", "y")]
    graph = onnx.helper.make_graph(
        [product], "main", ports[:1], ports[1:], [onnx.numpy_helper.from_array(a, name) for name, a in tensors.items()]
    )
    imports = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("com.microsoft", 1)]
    model = onnx.helper.make_model(graph, opset_imports=imports, ir_version=8)
    if change is not None:
        change(model)
    onnx.save(model, path)
    return form_of(path)


def test_lines_say_what_chooses_a_kernel(tmp_path: Path) -> None:
    assert made(tmp_path / "a.onnx") == (
        "ir 8",
        "node com.microsoft.MatMulNBits bits=4; inputs x32__1",
        "opset ai.onnx 18",
        "opset com.microsoft 1",
        "tensor FLOAT",
        "tensor UINT8",
    )


def test_sizes_are_no_part_of_it(tmp_path: Path) -> None:
    assert digest_of(made(tmp_path / "a.onnx")) == digest_of(made(tmp_path / "b.onnx", width=64))


CHANGES: dict[str, Callable[[Any], None]] = {
    "IR": lambda model: setattr(model, "ir_version", 9),
    "opset": lambda model: setattr(model.opset_import[0], "version", 19),
    "bits": lambda model: setattr(next(a for a in model.graph.node[0].attribute if a.name == "bits"), "i", 8),
    "operator": lambda model: setattr(model.graph.node[0], "op_type", "MatMulBnb4"),
    "domain": lambda model: setattr(model.graph.node[0], "domain", ""),
    "an input left out": lambda model: model.graph.node[0].input.pop(),
    "type": lambda model: model.graph.initializer[1].CopyFrom(
        onnx.numpy_helper.from_array(np.zeros((8, 1), np.float16), "scales")
    ),
    "rank of a constant": lambda model: model.graph.initializer[2].CopyFrom(
        onnx.numpy_helper.from_array(np.zeros((1, 8), np.float32), "bias")
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_what_changes_the_kernel_changes_the_form(change: Callable[[Any], None], tmp_path: Path) -> None:
    assert digest_of(made(tmp_path / "a.onnx")) != digest_of(made(tmp_path / "b.onnx", change))
