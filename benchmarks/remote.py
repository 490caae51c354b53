"""An object in a process of its own: its memory, its threads and its crashes are its own too."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from verify.sandbox import limits
from verify.sandbox.spawned import NoAnswerError, Python, Spawned, answer_all, describe

QUIET_S = 0.02  # an idle process must use no processor time for so long
PATIENCE_S = 2.0  # spinning threads of every engine here go to sleep within a fraction of it


class RemoteError(Exception):
    """The object raised, or its process died or gave no answer in time."""


class Remote(Spawned):
    """Makes `factory(*arguments)` in a spawned process and calls its methods there. `factory` must be importable.

    Whatever the process prints goes to the file `log`: libraries are talkative, and stdout is for the result's path.
    `python` is another than this one, such as one whose libraries see no AVX-512.
    """

    def __init__(
        self, log: Path, factory: Callable[..., object], *arguments: object, python: Python | None = None
    ) -> None:
        self._python = python
        log.parent.mkdir(parents=True, exist_ok=True)
        # Kept, so that a call after the process's end fails: a new process would be measured without a warm-up.
        self._connection = self._spawn(_serve, log, factory, arguments)

    def call(self, method: str, *arguments: object, timeout_s: float) -> Any:
        """The method's result; RemoteError says why there is none."""
        try:
            kind, value = self._request(self._connection, (method, arguments), timeout_s)
        except NoAnswerError as error:
            raise RemoteError(str(error)) from error
        if kind == "error":
            raise RemoteError(value)
        return value


def settle(pids: Iterable[int], patience_s: float = PATIENCE_S) -> bool:
    """Wait until no process uses the processor; False if one still does after `patience_s`.

    Thread pools spin for some milliseconds after their last task (onnxruntime, OpenMP), on cores that the next engine
    is to be measured on.
    """
    pids = list(pids)
    deadline = time.monotonic() + patience_s
    before = _busy_ns(pids)
    while time.monotonic() < deadline:
        time.sleep(QUIET_S)
        now = _busy_ns(pids)
        if now - before < QUIET_S * 1e9 / 20:  # 5 %: a timer or a signal may fire
            return True
        before = now
    return False


def _busy_ns(pids: Iterable[int]) -> int:
    """Processor time that all threads of the processes have used, in nanoseconds."""
    total = 0
    for pid in pids:
        for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):  # a thread has just ended
                total += int(path.read_text().split()[0])
    return total


def _serve(pipe: Connection, log: Path, factory: Callable[..., object], arguments: tuple[object, ...]) -> None:
    limits.die_with_parent()
    stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    instance: object | None = None

    def answer(message: tuple[str, tuple[object, ...]]) -> tuple[str, Any]:
        nonlocal instance
        method, values = message
        try:
            instance = factory(*arguments) if instance is None else instance
            return "ok", getattr(instance, method)(*values)
        except Exception as error:  # noqa: BLE001  # whatever a foreign engine raises is its result, and is reported
            return "error", describe(error)

    answer_all(pipe, answer)
