"""Files that somebody hostile, careless or unlucky might hand to `verify --candidate`, each made by one function."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Make = Callable[[Path], None]  # writes the file at the path, and what belongs beside it
Change = Callable[[onnx.ModelProto], object]


def port(name: str, kind: int, axes: list[str | int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, axes)


def sound() -> onnx.ModelProto:
    """A tiny model with nothing wrong: logits = w[input_ids], w float32 [3, 4]."""
    weight = numpy_helper.from_array(np.arange(12, dtype=np.float32).reshape(3, 4), "w")
    inputs = [port("input_ids", TensorProto.INT64, ["batch_size", "sequence_length"])]
    outputs = [port("logits", TensorProto.FLOAT, ["batch_size", "sequence_length", 4])]
    gather = helper.make_node("Gather", ["w", "input_ids"], ["logits"], name="lookup")
    graph = helper.make_graph([gather], "g", inputs, outputs, [weight])
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def changed(change: Change) -> Make:
    """The sound model, changed."""

    def make(path: Path) -> None:
        model = sound()
        change(model)
        path.write_bytes(model.SerializeToString())

    return make


def content(data: bytes) -> Make:
    def make(path: Path) -> None:
        path.write_bytes(data)

    return make


def cut(share: float) -> Make:
    def make(path: Path) -> None:
        whole = sound().SerializeToString()
        path.write_bytes(whole[: int(len(whole) * share)])

    return make


def weight(**values: Any) -> Make:
    """The sound model with other fields in its one tensor."""

    def change(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        for field, value in values.items():
            tensor.ClearField(field)
            if isinstance(value, list):
                getattr(tensor, field).extend(value)
            else:
                setattr(tensor, field, value)

    return changed(change)


def external(*entries: tuple[str, str], beside: Callable[[Path], object] | None = None) -> Make:
    """The sound model with its tensor outside; `beside` makes what lies in its directory."""

    def make(path: Path) -> None:
        model = sound()
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in entries:
            tensor.external_data.add(key=key, value=value)
        (path.parent / "w.bin").write_bytes(bytes(48))
        if beside is not None:
            beside(path.parent)
        path.write_bytes(model.SerializeToString())

    return make


def nodes(*made: onnx.NodeProto, keep: bool = True, constants: dict[str, np.ndarray] | None = None) -> Make:
    """The sound model with nodes before its own, or (not `keep`) in their place."""

    def change(model: onnx.ModelProto) -> None:
        own = list(model.graph.node) if keep else []
        model.graph.ClearField("node")
        model.graph.node.extend([*made, *own])
        model.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in (constants or {}).items())

    return changed(change)


def announcing(length: int) -> bytes:
    """A graph that says it has so many bytes, of which 3 come."""
    sizes = bytearray()
    while length >= 0x80:
        sizes.append(length & 0x7F | 0x80)
        length >>= 7
    return b"\x08\x08\x3a" + bytes(sizes) + bytes([length]) + b"abc"


def large(path: Path) -> None:
    with path.open("wb") as stream:
        stream.write(b"\x08\x08")
        stream.truncate(2**40)  # sparse: takes no room


def loop(trips: int) -> onnx.NodeProto:
    """A Loop that doubles nothing `trips` times; its inputs are constants `trips`, `yes` and `start`."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("Neg", ["x"], ["y"])],
        "body",
        [port("i", TensorProto.INT64, []), port("c", TensorProto.BOOL, []), port("x", TensorProto.FLOAT, [1, 1, 4])],
        [port("c2", TensorProto.BOOL, []), port("y", TensorProto.FLOAT, [1, 1, 4])],
    )
    assert trips > 0
    return helper.make_node("Loop", ["trips", "yes", "start"], ["logits"], body=body)


def damaged_location(path: Path) -> None:
    external(PLAIN)(path)
    path.write_bytes(path.read_bytes().replace(b"w.bin", b"w.b\xffn"))


DIMENSIONS = {
    "layers": 1,
    "hidden": 4,
    "heads": 1,
    "kv_heads": 1,
    "head_dim": 4,
    "context": 8,
    "vocabulary": 3,
    "parameters": 12,
    "tied": True,
}  # of the smallest model that foreign files are held against
PLAIN = ("location", "w.bin")
ENDLESS = nodes(
    loop(2**62),
    keep=False,
    constants={"trips": np.array(2**62), "yes": np.array(True), "start": np.ones((1, 1, 4), np.float32)},
)
ENORMOUS = nodes(
    helper.make_node("ConstantOfShape", ["shape"], ["logits"]),
    keep=False,
    constants={"shape": np.array([1, 2**18, 2**18])},
)
