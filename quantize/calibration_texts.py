"""Read the recipe's calibration texts as token ids: whole text files, and JSON lines, by the model's own tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from model import tokenizer as reader
from model.chat import rendered
from pipeline.errors import InputError, RecipeError
from pipeline.lines import JSON_LINES, TextEntry, read_json_lines

KEYS = ("text", "prompt", "messages")
AGAIN = "convert the source again"


def token_ids(paths: Sequence[Path], tokenizer: Path) -> list[int]:
    """The ids of all texts, one after the other, without special tokens but those that a text or a template writes.

    A file named .jsonl has a text on each line, or the messages of a conversation, which the tokenizer's chat template
    renders; any other file is one text. RecipeError when a text cannot be read, InputError for a line that is none and
    for a bad tokenizer.
    """
    texts = [text for path in paths for text in _texts(path, tokenizer.parent)]
    try:
        encode = Tokenizer.from_file(str(tokenizer)).encode
    except Exception as error:  # tokenizers raises plain Exception
        raise InputError(f"no tokenizer: {error}", where=tokenizer, hint=AGAIN) from error
    return [number for text in texts for number in encode(text, add_special_tokens=False).ids]


def _texts(path: Path, model: Path) -> list[str]:
    if path.suffix == JSON_LINES:
        entries = read_json_lines(path, KEYS)
        own = reader.load(model) if any(entry.messages for entry in entries) else None
        return [_text(entry, own) for entry in entries]
    hint = "set calibration.text to UTF-8 text files, relative to the recipe"
    try:
        return [path.read_text(encoding="utf-8")]
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"text cannot be read: {error}", where=path, hint=hint) from error


def _text(entry: TextEntry, tokenizer: Any) -> str:
    return entry.text if entry.text is not None else rendered(entry.messages, tokenizer, entry.where, answering=False)
