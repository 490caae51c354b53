"""Texts that are no UTF-8. Protobuf lets them through (as bytes), and every reader then fails in a way of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import Message

from pipeline.errors import InputError
from verify.candidate.untrusted.content import FETCH_AGAIN


def refuse_bad_text(message: Message, path: Path) -> None:
    """InputError for any name, operator, domain or other text of a message, at any depth, that is not UTF-8."""
    for name, value in _fields(message):
        items = [value] if isinstance(value, str | bytes | Message) else value
        for item in items:
            if isinstance(item, Message):
                refuse_bad_text(item, path)
            elif isinstance(item, bytes):
                what = f"damaged: {message.DESCRIPTOR.name}.{name} is not UTF-8: {item[:20]!r}"
                raise InputError(what, where=path, hint=FETCH_AGAIN)


def _fields(message: Message) -> list[tuple[str, Any]]:
    """The fields of texts and of messages that are there. A tensor's payload is not touched: that would copy it."""
    if isinstance(message, onnx.TensorProto):
        return [(name, getattr(message, name)) for name in ("name", "doc_string", "external_data", "metadata_props")]
    string = onnx.TensorProto.DESCRIPTOR.fields_by_name["name"].type
    return [(field.name, value) for field, value in message.ListFields() if field.message_type or field.type == string]
