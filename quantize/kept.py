"""Keep what several variants of one run need: solved matrices, the fp32 graph's logits."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.canonical import digest

Array = np.ndarray[Any, np.dtype[Any]]


class Kept:
    """Arrays by what they are, in files: memory holds what is in use.

    `place` makes their directory, which should live as long as the run; it is called when there is something to keep.
    All that decides the arrays must be in their key.
    """

    def __init__(self, place: Callable[[], Path]) -> None:
        self._place = functools.cache(place)
        self._known: set[str] = set()

    def arrays(self, key: Mapping[str, Any], make: Callable[[], tuple[Array, ...]], count: int) -> list[Array]:
        """The `count` arrays that `make` returns, which is called the first time only."""
        name = digest(key)
        paths = [self._place() / f"{name}.{i}.npy" for i in range(count)]
        if name not in self._known:
            for path, array in zip(paths, make(), strict=True):
                np.save(path, array)
            self._known.add(name)
        return [np.load(path, mmap_mode="r") for path in paths]
