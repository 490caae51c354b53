"""Progress on stderr: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def progress(title: str, items: Iterable[T], total: int | None = None) -> Iterable[T]:
    """The items, with a bar that counts them."""
    interval = 0.2 if sys.stderr.isatty() else 15
    shown: Iterable[T] = tqdm(items, desc=title, total=total, file=sys.stderr, leave=False, mininterval=interval)
    return shown
