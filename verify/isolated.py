"""A process of its own for a runtime that is a Python library: its imports are paid once, its crash is one failure."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import resource
import signal
import sys
import traceback
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from verify.runtime import Answers, Ask, Bounds, RuntimeFailure, Task
from verify.spawned import Spawned


@contextlib.contextmanager
def isolated(module: str, settings: Any, bounds: Bounds) -> Iterator[Ask]:
    """Gives a function that lets `module.answer(task, settings)` answer in a child, started anew after a failure."""
    child = _Child(module, settings, bounds)
    try:
        yield child.ask
    finally:
        child.stop()


class _Child(Spawned):
    def __init__(self, module: str, settings: Any, bounds: Bounds) -> None:
        self._module, self._settings, self._bounds = module, settings, bounds

    def ask(self, task: Task) -> Answers:
        try:
            pipe = self._start()
            pipe.send(task)
            if not pipe.poll(self._bounds.timeout_s):
                self.stop()
                raise RuntimeFailure(f"no answer within {self._bounds.timeout_s:g} s")
            kind, value = pipe.recv()
        except (EOFError, ConnectionError) as error:
            raise RuntimeFailure(f"its process died (exit code {self.stop()})") from error
        if kind == "error":
            self.stop()  # what it holds after a failure is unknown
            raise RuntimeFailure(value)
        answers: Answers = value
        return answers

    def _start(self) -> Connection:
        return self._spawn(_serve, self._module, self._settings, self._bounds.memory_gb)


def _serve(pipe: Connection, module: str, settings: Any, memory_gb: float) -> None:
    if sys.platform == "linux":
        # A killed parent cannot end a runtime that hangs; the kernel can (prctl's PR_SET_PDEATHSIG is 1).
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    limit = int(memory_gb * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.environ["HF_HUB_OFFLINE"] = "1"
    answer = importlib.import_module(module).answer
    with contextlib.suppress(EOFError, ConnectionError, KeyboardInterrupt):  # the parent is gone, or the user is
        while True:
            task = pipe.recv()
            try:
                reply = ("ok", answer(task, settings))
            except Exception as error:  # noqa: BLE001  # whatever a runtime raises fails its check, and is reported
                last = traceback.extract_tb(error.__traceback__)[-1]
                reply = ("error", f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})")
            pipe.send(reply)
