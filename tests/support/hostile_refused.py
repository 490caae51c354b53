"""Say what is no usable ONNX model: content of another kind, broken frames, tensors and external data."""

from __future__ import annotations

import gzip
import os
import pickle

import numpy as np
from onnx import TensorProto, helper

from tests.support.hostile import (
    PLAIN,
    Make,
    announcing,
    content,
    cut,
    damaged_location,
    external,
    large,
    nodes,
    sound,
    weight,
)

# Exit code 3. What must be said of it.
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
