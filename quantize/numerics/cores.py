"""Share work among the cores: as many threads as there are cores, each of which computes alone."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from threadpoolctl import ThreadpoolController

S = TypeVar("S")
T = TypeVar("T")


def share(work: Callable[[S], T], items: Iterable[S]) -> list[T]:
    """`work(item)` for all items, in order, shared among the cores."""
    with alone(), ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return list(pool.map(work, items))


def by_groups(work: Callable[[int, int], T], rows: int, size: int) -> list[T]:
    """`work(start, stop)` for groups of `size` rows, in order, shared among the cores."""
    return share(lambda start: work(start, min(start + size, rows)), range(0, rows, size))


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Compute numpy's and scipy's products on one thread each.

    The order of their sums depends on how many threads share them; so results are the same on any number of cores.
    """
    with _libraries().limit(limits=1):
        yield


@functools.cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()
