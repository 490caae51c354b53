"""Warnings of a stage: said on stderr, and gathered for what is kept of the run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

from pipeline.command import say

_gathered: ContextVar[list[str] | None] = ContextVar("warnings", default=None)


def warn(message: str) -> None:
    """Say a warning, and add it to those that are gathered."""
    say(f"WARNING: {message}")
    gathered = _gathered.get()
    if gathered is not None and message not in gathered:
        gathered.append(message)


@contextlib.contextmanager
def gathering() -> Iterator[list[str]]:
    """Give a list that fills with the warnings that are said meanwhile."""
    gathered: list[str] = []
    token = _gathered.set(gathered)
    try:
        yield gathered
    finally:
        _gathered.reset(token)
