"""Render conversations as text by the chat template of a checkpoint's own tokenizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.errors import InputError


def rendered(messages: Sequence[Mapping[str, str]], tokenizer: Any, where: str, *, answering: bool) -> str:
    """The text that a model is given for a conversation; `answering`: it goes on with the answer.

    `tokenizer` is transformers' own. Raises InputError, which names the line `where`, if it has no template, or if the
    template refuses the conversation.
    """
    if not tokenizer.chat_template:
        hint = 'write {"prompt": "..."}, with all that the model is to see, or use a source that has a chat template'
        raise InputError("messages, but the source's tokenizer has no chat template", where=where, hint=hint)
    try:
        text: str = tokenizer.apply_chat_template([*messages], tokenize=False, add_generation_prompt=answering)
    except Exception as error:  # a template is a program of its author's, and raises what it likes
        hint = "mend the messages: the source's own chat template decides which roles, in which order, it takes"
        raise InputError(f"the source's chat template refuses it: {error}", where=where, hint=hint) from error
    return text
