"""The outermost layer of protobuf: does every field end where it says, within the file? Only field headers are read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from pipeline.errors import InputError
from verify.candidate.untrusted.content import FETCH_AGAIN, NAME_ONNX

LARGEST = 2**31 - 1  # bytes; protobuf's own limit for a message
MOST_FIELDS = 100_000  # of ModelProto itself: graph, opsets, metadata and functions
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
# ModelProto's fields by number, as onnx.proto has them: name and wire type
FIELDS = {
    1: ("ir_version", VARINT),
    2: ("producer_name", BYTES),
    3: ("producer_version", BYTES),
    4: ("domain", BYTES),
    5: ("model_version", VARINT),
    6: ("doc_string", BYTES),
    7: ("graph", BYTES),
    8: ("opset_import", BYTES),
    14: ("metadata_props", BYTES),
    20: ("training_info", BYTES),
    25: ("functions", BYTES),
    26: ("configuration", BYTES),
}


def refuse_broken_frame(path: Path) -> None:
    """InputError for what is no protobuf message of ModelProto's kind, is cut short, or is larger than one can be."""
    size = path.stat().st_size
    if size > LARGEST:
        what = f"{size} bytes: an ONNX file has at most {LARGEST}"
        raise InputError(what, where=path, hint="store large weights as external data")
    with path.open("rb") as stream:
        for _ in range(MOST_FIELDS):
            at = stream.tell()
            if at == size:
                return
            _skip_field(stream, path, at, size)
    raise InputError(f"not an ONNX model: more than {MOST_FIELDS} fields", where=path, hint=NAME_ONNX)


def _skip_field(stream: BinaryIO, path: Path, at: int, size: int) -> None:
    tag = _varint(stream, path)
    number, wire = tag >> 3, tag & 7
    name, wanted = FIELDS.get(number, (f"{number}", wire))
    if wire != wanted or wire not in {VARINT, FIXED64, BYTES, FIXED32} or (at == 0 and number not in FIELDS):
        what = f"not an ONNX model: field {number} of wire type {wire} at byte {at}"
        raise InputError(what, where=path, hint=NAME_ONNX)
    if wire == VARINT:
        _varint(stream, path)
        return
    length = _varint(stream, path) if wire == BYTES else 8 if wire == FIXED64 else 4
    left = size - stream.tell()
    if length > left:
        what = f"truncated: field {name} announces {length} bytes, {left} are left"
        raise InputError(what, where=path, hint=FETCH_AGAIN)
    stream.seek(length, os.SEEK_CUR)


def _varint(stream: BinaryIO, path: Path) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = stream.read(1)
        if not byte:
            raise InputError("truncated: the file ends within a number", where=path, hint=FETCH_AGAIN)
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise InputError("not an ONNX model: a number of more than ten bytes", where=path, hint=NAME_ONNX)
