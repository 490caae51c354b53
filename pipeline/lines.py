"""Read a user's own texts, one a line: a file of text lines (.txt), or of JSON lines (.jsonl) with known keys."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.canonical import parse_json
from pipeline.errors import InputError
from pipeline.typed import did_you_mean

JSON_LINES = ".jsonl"
TEXT_LINES = ".txt"
BOM = b"\xef\xbb\xbf"
MESSAGES = "messages"
PLAIN = "save it as UTF-8 without a byte order mark, with line ends of LF alone (not CR LF)"


@dataclass(frozen=True)
class TextEntry:
    """One line: a text, or the messages of a conversation, each with `role` and `content`."""

    number: int  # of the line, from 1
    where: str  # FILE:NUMBER, for a message about it
    text: str | None = None
    messages: tuple[dict[str, str], ...] = ()


def read_json_lines(path: Path, keys: Collection[str]) -> list[TextEntry]:
    """One entry for each line: an object with one of the keys, whose value is a text or, of `messages`, a conversation.

    Raises InputError, with the file and the line, for anything else.
    """
    return [_entry(number, line, path, keys) for number, line in _lines(path)]


def read_text_lines(path: Path) -> list[TextEntry]:
    """One entry for each line, which is its text. InputError, with the file and the line, for a line that is none."""
    return [TextEntry(number, f"{path}:{number}", text=line) for number, line in _lines(path)]


def _lines(path: Path) -> Sequence[tuple[int, str]]:
    """Every line with its number. What a reader would have to guess about is refused: nothing is stripped or mended."""
    if not path.is_file():
        raise InputError("not a file", where=path, hint=f"name a file of lines, {TEXT_LINES} or {JSON_LINES}")
    content = path.read_bytes()
    if content.startswith(BOM):
        raise InputError("the line begins with a byte order mark", where=f"{path}:1", hint=PLAIN)
    if not content.removesuffix(b"\n"):
        raise InputError("the file has no lines", where=path, hint="write one text a line")
    return [
        (number, _text(line, f"{path}:{number}"))
        for number, line in enumerate(content.removesuffix(b"\n").split(b"\n"), 1)
    ]


def _text(line: bytes, where: str) -> str:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"the line is not UTF-8: {error.reason}", where=where, hint=PLAIN) from error
    if "\r" in text:
        raise InputError("the line holds a carriage return, which would be part of the text", where=where, hint=PLAIN)
    if not text.strip():
        raise InputError("the line is empty", where=where, hint="take it out: every line is one text")
    return text


def _entry(number: int, line: str, path: Path, keys: Collection[str]) -> TextEntry:
    where, example = f"{path}:{number}", f"write one object a line, with one of: {', '.join(keys)}"
    try:
        table = parse_json(line, where)
    except InputError as error:
        raise InputError(error.what, where=where, hint=example) from error
    if not isinstance(table, dict):
        raise InputError(f"expected an object, found {type(table).__name__}", where=where, hint=example)
    for key in table:
        if key not in keys:
            raise InputError(f"unknown key {key!r}", where=where, hint=did_you_mean(key, keys))
    if len(table) != 1:
        raise InputError(f"{len(table)} keys, one is needed", where=where, hint=example)
    ((key, value),) = table.items()
    if key == MESSAGES:
        return TextEntry(number, where, messages=_messages(value, where))
    if not isinstance(value, str) or not value:
        raise InputError(f"{key} is no text, or an empty one", where=where, hint=f'write {{"{key}": "..."}}')
    return TextEntry(number, where, text=value)


def _messages(value: Any, where: str) -> tuple[dict[str, str], ...]:
    hint = f'write {{"{MESSAGES}": [{{"role": "user", "content": "..."}}]}}'
    if not isinstance(value, list) or not value:
        raise InputError(f"{MESSAGES} is no list of messages, or an empty one", where=where, hint=hint)
    for number, message in enumerate(value, 1):
        if not isinstance(message, dict) or message.keys() != {"role", "content"}:
            raise InputError(f"message {number} has other keys than role and content", where=where, hint=hint)
        if not all(isinstance(text, str) for text in message.values()):
            raise InputError(f"role or content of message {number} is no text", where=where, hint=hint)
    return tuple(value)
