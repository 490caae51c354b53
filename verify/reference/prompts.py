"""Prompts of a user's own, as token ids: the recipe's checks are asked about them beside the recipe's text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from model.chat import rendered
from pipeline.canonical import file_digest
from pipeline.errors import InputError
from pipeline.lines import JSON_LINES, TEXT_LINES, TextEntry, read_json_lines, read_text_lines
from verify.check import Array, Prompt

KEYS = ("prompt", "messages")


@dataclass(frozen=True)
class PromptFile:
    """State what a file of prompts holds: text lines, or JSON lines with `prompt` or `messages`."""

    path: Path
    sha256: str
    entries: Sequence[TextEntry]

    def table(self) -> dict[str, Any]:
        """Return what a report says of the file."""
        return {"file": self.path.name, "sha256": self.sha256, "count": len(self.entries)}

    def prompts(self, tokenizer: Any, context: int) -> tuple[Prompt, ...]:
        """Every prompt as the source's tokenizer gives it to the model, messages by its chat template.

        Raises InputError, with file and line, for messages without a template, for no token, and for a prompt that
        leaves no room for an answer within the context.
        """
        return tuple(Prompt(f"line {entry.number}", _ids(entry, tokenizer, context)) for entry in self.entries)


def read(path: Path) -> PromptFile:
    """Read the lines; InputError, with file and line, for what is no prompt. Nothing is tokenized yet."""
    readers = {TEXT_LINES: read_text_lines, JSON_LINES: lambda place: read_json_lines(place, KEYS)}
    reader = readers.get(path.suffix)
    if reader is None:
        hint = f"name it {TEXT_LINES} if each line is a prompt, {JSON_LINES} if each is a JSON object"
        raise InputError(f"a file of prompts ends in {' or '.join(readers)}", where=path, hint=hint)
    return PromptFile(path, file_digest(path) if path.is_file() else "", reader(path))


def _ids(entry: TextEntry, tokenizer: Any, context: int) -> Array:
    if entry.text is not None:
        found = tokenizer(entry.text, verbose=False)
    else:  # a template writes the special tokens itself
        text = rendered(entry.messages, tokenizer, entry.where, answering=True)
        found = tokenizer(text, verbose=False, add_special_tokens=False)
    ids: Array = np.asarray(found["input_ids"], np.int64)
    if not len(ids):
        raise InputError("the prompt has no tokens", where=entry.where, hint="take the line out")
    if len(ids) >= context:
        hint = f"shorten it to {context - 1} tokens: an answer needs one of the {context} of the model's context"
        raise InputError(f"the prompt has {len(ids)} tokens", where=entry.where, hint=hint)
    return ids
