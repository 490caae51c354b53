"""Several candidates' processes at a time: every thread has cores of its own, and a process that it starts there.

Two processes of one thread each judge half as many more files in an hour than one process of two threads: a decoded
token is too short for two threads to share, and comparing logits is the work of one.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from pipeline.recipe.recipe import Verify
from verify.emulation.emulator import Emulator
from verify.sandbox.worker import Worker

Job = TypeVar("Job")
Done = TypeVar("Done")


class Pool:
    """As many workers as this process may use cores, or `most`, among which the cores are divided.

    Each works within the recipe's bounds on time and memory. With an emulator they are of its processor.
    """

    def __init__(self, bounds: Verify, *, most: int | None = None, emulator: Emulator | None = None) -> None:
        cores = sorted(os.sched_getaffinity(0))
        count = min(most or len(cores), len(cores))
        self._bounds, self._emulator = bounds, emulator
        self._own = threading.local()
        self._free: queue.SimpleQueue[list[int]] = queue.SimpleQueue()
        for first in range(count):
            self._free.put(cores[first::count])
        self._workers: list[Worker] = []
        self._threads = ThreadPoolExecutor(count, initializer=self._begin)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        if kind is not None:  # an interrupted run does not wait for answers that nobody will read
            for worker in self._workers:
                worker.abandon()
        self._threads.shutdown()
        for worker in self._workers:
            worker.stop()

    def map(self, work: Callable[[Worker, Job], Done], jobs: Iterable[Job]) -> Iterator[Done]:
        """`work` of every job, in order; each with a worker that no other thread uses."""
        return self._threads.map(lambda job: work(self._own.worker, job), jobs)

    def _begin(self) -> None:
        os.sched_setaffinity(0, self._free.get())  # of this thread, and of the processes that it starts
        self._own.worker = Worker(
            Path(),
            "",
            timeout_s=self._bounds.timeout_s,
            memory_gb=self._bounds.memory_gb,
            emulator=self._emulator,
        )
        self._workers.append(self._own.worker)
