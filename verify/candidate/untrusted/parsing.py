"""The file as onnx's message, and every tensor in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError, Message

from pipeline.errors import InputError
from verify.candidate.untrusted.content import FETCH_AGAIN, NAME_ONNX

LONGEST = 100  # characters of a foreign name that a message shows


def parse(path: Path) -> onnx.ModelProto:
    """The model, its external data not looked at; InputError for what protobuf or ONNX cannot read."""
    try:
        model: onnx.ModelProto = onnx.ModelProto.FromString(path.read_bytes())
    except DecodeError as error:
        what = f"not an ONNX model, or a damaged one: {error}"
        raise InputError(what, where=path, hint=FETCH_AGAIN) from error
    for field in ("ir_version", "graph"):
        if not model.HasField(field):
            raise InputError(f"not an ONNX model: it has no {field}", where=path, hint=NAME_ONNX)
    if not model.graph.output:
        raise InputError("empty model: its graph has no outputs", where=path, hint=NAME_ONNX)
    return model


def tensors(message: Message) -> Iterator[tuple[str, Any]]:
    """Every TensorProto anywhere in a message (initializers, attributes, inner graphs), with a name for people."""
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for item in [value] if isinstance(value, Message) else value:
            if isinstance(item, onnx.TensorProto):
                yield shown(item.name or _owner(message)), item
            else:
                yield from tensors(item)


def shown(name: str) -> str:
    """A foreign name, short enough and free of control characters."""
    text = name if name.isprintable() else repr(name)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _owner(message: Message) -> str:
    return f"(in {getattr(message, 'name', '') or message.DESCRIPTOR.name})"
