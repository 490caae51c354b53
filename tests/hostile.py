"""Files that somebody hostile, careless or unlucky might hand to `verify --candidate`, each made by one function."""

from __future__ import annotations

import gzip
import os
import pickle
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

# No usable ONNX model: exit code 3. What must be said of it.
REFUSED: dict[str, tuple[Make, str]] = {
    "parent directory": (external(("location", "../w.bin")), "'../w.bin' refused: it leaves the model's directory"),
    "detour": (external(("location", "a/../../w.bin")), "'a/../../w.bin' refused: it leaves"),
    "absolute": (external(("location", "/etc/passwd")), "'/etc/passwd' refused: it leaves"),
    "windows drive": (external(("location", "C:\\w.bin")), "refused: it leaves"),
    "backslash": (external(("location", "a\\w.bin")), "refused: it leaves"),
    "address in memory": (external(("location", "*/_ORT_MEM_ADDR_/*"), ("offset", "4096")), "refused: it leaves"),
    "null byte": (external(("location", "w.bin\0x")), "refused: it leaves"),
    "escaping link": (
        external(("location", "l"), beside=lambda d: (d / "l").symlink_to("/etc/passwd")),
        "'l' refused: l is a symbolic link",
    ),
    "link inside": (
        external(("location", "l"), beside=lambda d: (d / "l").symlink_to("w.bin")),
        "'l' refused: l is a symbolic link",
    ),
    "linked parent": (
        external(("location", "d/w.bin"), beside=lambda d: (d / "d").symlink_to(d)),
        "'d/w.bin' refused: d is a symbolic link",
    ),
    "hard link": (
        external(("location", "h"), beside=lambda d: os.link(d / "w.bin", d / "h")),
        "'h' refused: it is a hard link",
    ),
    "pipe": (external(("location", "p"), beside=lambda d: os.mkfifo(d / "p")), "'p' refused: it is no plain file"),
    "missing": (external(("location", "none")), "tensor w: missing external data: none"),
    "no location": (external(("offset", "0")), "tensor w: missing external data: no location"),
    "empty location": (external(("location", "")), "tensor w: missing external data: no location"),
    "a directory": (
        external(("location", "d"), beside=lambda d: (d / "d").mkdir()),
        "missing external data: d is a directory",
    ),
    "offset past the end": (external(PLAIN, ("offset", "49")), "out of range: bytes 49 to 97 of a file of 48"),
    "negative offset": (external(PLAIN, ("offset", "-1")), "out of range: offset '-1'"),
    "short file": (external(PLAIN, ("offset", "8")), "out of range: bytes 8 to 56 of a file of 48"),
    "length of 2^50": (external(PLAIN, ("length", str(2**50))), "size mismatch: its shape needs 48 bytes"),
    "length of no number": (external(PLAIN, ("length", "9" * 5000)), "out of range: length"),
    "length of another shape": (external(PLAIN, ("length", "44")), "size mismatch: its shape needs 48 bytes"),
    "unknown key": (external(PLAIN, ("lenght", "48")), "unknown key 'lenght' of external data"),
    "key twice": (external(PLAIN, PLAIN), "external data has two keys 'location'"),
    "no bytes": (content(b""), "empty model"),
    "no graph": (content(b"\x08\x08"), "not an ONNX model: it has no graph"),
    "cut in the middle": (cut(0.5), "truncated: field graph announces"),
    "last byte gone": (cut(0.999), "truncated: "),
    "a graph of 2^50 bytes": (content(announcing(2**50)), "truncated: field graph announces 1125899906842624 bytes"),
    "sparse terabyte": (large, "an ONNX file has at most 2147483647"),
    "random": (content(np.random.default_rng(5).bytes(5000)), "not an ONNX model"),
    "text": (content(b"just a text\n" * 99), "not an ONNX model"),
    "zeros": (content(bytes(5000)), "not an ONNX model"),
    "HTML": (content(b"\n<!DOCTYPE html><html>not found</html>"), "not an ONNX model but an HTML page"),
    "JSON": (content(b'{"error": "not found"}'), "not an ONNX model but JSON"),
    "gzip": (content(gzip.compress(b"x" * 99)), "not an ONNX model but a gzip archive"),
    "pickle": (content(pickle.dumps({"w": [1.0]})), "not an ONNX model but a pickle, which can run code"),
    "zip": (content(b"PK\x03\x04" + bytes(99)), "not an ONNX model but a zip archive"),
    "LFS pointer": (content(b"version https://git-lfs.github.com/spec/v1\n"), "Git LFS pointer, not content"),
    "dims of 2^40": (weight(dims=[2**40]), "tensor w: bad shape [1099511627776]: it needs 4398046511104 bytes"),
    "product beyond 64 bits": (weight(dims=[2**40, 2**40]), "tensor w: bad shape"),
    "negative dim": (weight(dims=[-3, -4]), "tensor w: bad shape [-3, -4]"),
    "1000 dimensions": (weight(dims=[1] * 1000), "tensor w: bad shape of 1000 dimensions"),
    "bad type": (weight(data_type=99), "tensor w: bad type 99"),
    "undefined type": (weight(data_type=0), "tensor w: bad type 0"),
    "type of another width": (
        weight(data_type=TensorProto.DOUBLE, raw_data=bytes(48)),
        "tensor w: size mismatch: DOUBLE [3, 4] needs 96 bytes, 48 are stored",
    ),
    "shape that lies": (weight(dims=[3, 3]), "size mismatch: FLOAT [3, 3] needs 36 bytes, 48 are stored"),
    "stored twice": (weight(float_data=[0.0] * 12), "stored twice, as float_data and raw_data"),
    "field of another type": (weight(raw_data=b"", int64_data=[1] * 12), "size mismatch: FLOAT [3, 4] needs 12"),
    "operator that is not UTF-8": (
        content(sound().SerializeToString().replace(b"Gather", b"G\xfcther")),
        "damaged: NodeProto.op_type is not UTF-8: b'G\\xfcther'",
    ),
    "location that is not UTF-8": (damaged_location, "damaged: StringStringEntryProto.value is not UTF-8"),
    "bad tensor in an attribute": (
        nodes(helper.make_node("Constant", [], ["c"], value=TensorProto(dims=[2**40], data_type=1, raw_data=b"1234"))),
        "tensor (in value): bad shape",
    ),
}


def opset(version: int, domain: str = "") -> Make:
    def change(model: onnx.ModelProto) -> None:
        entry = next((e for e in model.opset_import if e.domain == domain), None) or model.opset_import.add()
        entry.domain, entry.version = domain, version

    return changed(change)


def claim(model: onnx.ModelProto) -> None:
    """A value between two nodes is said to be of another type than it is."""
    model.graph.node[0].output[0] = "between"
    model.graph.node.append(helper.make_node("Identity", ["between"], ["logits"]))
    model.graph.value_info.append(port("between", TensorProto.INT64, ["batch_size", "sequence_length", 4]))


def claim_shape(model: onnx.ModelProto) -> None:
    claim(model)
    model.graph.ClearField("value_info")
    model.graph.value_info.append(port("between", TensorProto.FLOAT, ["batch_size", "sequence_length", 5]))


def poisoned(value: float) -> Make:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    array[1, 2] = value
    return weight(raw_data=array.tobytes())


# Can be read, but wrong: exit code 1, by this rule of the check `structure`, with these words.
WRONG: dict[str, tuple[Make, str, str]] = {
    "unknown operator": (
        nodes(helper.make_node("Frobnicate", ["input_ids"], ["f"])),
        "operators",
        "operator Frobnicate does not exist in domain 'ai.onnx'; supported: ai.onnx up to opset 21, com.microsoft",
    ),
    "unknown operator of onnxruntime": (
        nodes(helper.make_node("Frobnicate", ["input_ids"], ["f"], domain="com.microsoft")),
        "operators",
        "operator Frobnicate does not exist in domain 'com.microsoft'",
    ),
    "operator of a later opset": (
        nodes(helper.make_node("Gelu", ["w"], ["f"])),
        "operators",
        "operator Gelu exists from opset 20; the model imports 18",
    ),
    "unknown domain": (opset(1, "org.example"), "versions", "operator domain 'org.example'; supported: '', 'ai.onnx'"),
    "opset too new": (opset(999), "versions", "opset 999; supported: 1 to 21"),
    "opset of none": (opset(0), "versions", "opset 0; supported: 1 to 21"),
    "IR of the future": (
        changed(lambda m: setattr(m, "ir_version", 4096)), "versions", "IR version 4096; supported: 1 to 10",
    ),
    "cycle": (
        nodes(helper.make_node("Neg", ["b"], ["a"]), helper.make_node("Neg", ["a"], ["b"])), "wiring", "cycle: ",
    ),
    "undefined input": (
        nodes(helper.make_node("Neg", ["nothing"], ["a"], name="n")), "wiring", "node n reads nothing, which is undef",
    ),
    "wrong order": (
        nodes(helper.make_node("Neg", ["b"], ["a"], name="n"), helper.make_node("Neg", ["w"], ["b"])),
        "wiring",
        "node n reads b before it is made",
    ),
    "undefined output": (nodes(keep=False), "wiring", "output logits is undefined"),
    "output made twice": (
        nodes(helper.make_node("Gather", ["w", "input_ids"], ["logits"])), "wiring", "value logits is made twice",
    ),
    "initializer twice": (
        changed(lambda m: m.graph.initializer.append(m.graph.initializer[0])), "wiring", "initializer w is stored tw",
    ),
    "NaN": (poisoned(float("nan")), "finite", "w holds NaN or infinity"),
    "infinity": (poisoned(float("inf")), "finite", "w holds NaN or infinity"),
    "type that lies": (changed(claim), "checker", "Inferred elem type differs from existing elem type"),
    "shape that lies between nodes": (changed(claim_shape), "checker", "Inferred shape and existing shape differ"),
    "external data, all in order": (external(PLAIN, ("length", "48")), "single_file", "w is stored outside the file"),
}  # fmt: skip
