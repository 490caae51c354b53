"""Rows in groups, on every core: as many threads as there are cores, each of which computes alone."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from threadpoolctl import ThreadpoolController

T = TypeVar("T")


def by_groups(work: Callable[[int, int], T], rows: int, size: int) -> list[T]:
    """`work(start, stop)` for groups of `size` rows, in order."""
    starts = range(0, rows, size)
    with alone(), ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return list(pool.map(lambda start: work(start, min(start + size, rows)), starts))


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
