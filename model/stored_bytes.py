"""Find where in an ONNX file the numbers of each initializer lie, so that another graph may read them there.

ONNX's external data is a file, an offset and a length, and nothing says that the file may not be an ONNX file itself.
The parser tells no offsets, so the wire format is followed, as far as needed:
protobuf.dev/programming-guides/encoding (tags, varints, lengths) and onnx.proto (numbers of fields).
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

GRAPH, INITIALIZER, NAME, RAW_DATA = 7, 5, 8, 9  # fields of ModelProto, GraphProto, TensorProto, TensorProto
VARINT, EIGHT_BYTES, LENGTH, FOUR_BYTES = 0, 1, 2, 5  # wire types


class ByteRange(NamedTuple):
    """Bytes of a file."""

    offset: int
    length: int


def places(path: Path) -> dict[str, ByteRange]:
    """Return where the raw data of each initializer of an ONNX file lies, by its name; those without are left out.

    Raises ValueError for what is no such file.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        found = {}
        for graph in _messages(data, ByteRange(0, len(data)), GRAPH):
            for tensor in _messages(data, graph, INITIALIZER):
                fields = dict(_fields(data, tensor))
                if NAME in fields and RAW_DATA in fields:
                    offset, length = fields[NAME]
                    found[data[offset : offset + length].decode()] = fields[RAW_DATA]
        return found


def _messages(data: mmap.mmap, whole: ByteRange, wanted: int) -> Iterator[ByteRange]:
    return (place for number, place in _fields(data, whole) if number == wanted)


def _fields(data: mmap.mmap, whole: ByteRange) -> Iterator[tuple[int, ByteRange]]:
    """Yield the number of each field of a message that has a length, and where its content lies."""
    at, end = whole.offset, whole.offset + whole.length
    while at < end:
        tag, at = _varint(data, at, end)
        number, kind = tag >> 3, tag & 7
        if kind == LENGTH:
            length, at = _varint(data, at, end)
            yield number, ByteRange(at, length)
            at += length
        elif kind == VARINT:
            _, at = _varint(data, at, end)
        elif kind in (EIGHT_BYTES, FOUR_BYTES):
            at += 8 if kind == EIGHT_BYTES else 4
        else:
            raise ValueError(f"wire type {kind} at byte {at}")
    if at > end:
        raise ValueError(f"a field goes beyond byte {end}")


def _varint(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    """A number of seven bits a byte, lowest first, and where it ends."""
    value = shift = 0
    while at < end:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise ValueError(f"a number is cut off at byte {end}")
