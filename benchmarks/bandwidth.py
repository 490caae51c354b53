"""Memory bandwidth, the limit of decoding: every weight is read once for every token."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from benchmarks.engine import Array

BUFFER = 128 * 2**20  # bytes per thread: far beyond the last-level cache of any processor this runs on
PASSES = 4


class Memory:
    """Buffers that are read whole, one per thread, each by its own thread."""

    def __init__(self, threads: int) -> None:
        # Written, not only reserved: untouched pages all map to one page of zeros, which stays in the cache.
        self._buffers = [np.full(BUFFER // 4, 0.5, dtype=np.float32) for _ in range(threads)]

    def read(self) -> float:
        """Bytes per second of reading the buffers with all threads; the best of a few passes, because it is a limit."""
        with ThreadPoolExecutor(len(self._buffers)) as pool:
            return max(self._pass(pool) for _ in range(PASSES))

    def _pass(self, pool: ThreadPoolExecutor) -> float:
        begin = time.perf_counter()
        list(pool.map(_scan, self._buffers))
        return len(self._buffers) * BUFFER / (time.perf_counter() - begin)


def _scan(buffer: Array) -> float:
    # max: vectorized, without the interpreter's lock, and as fast as a dot product or a sum, so bound by memory.
    return float(buffer.max())
