"""A process of its own for a runtime that is a Python library: its imports are paid once, its crash is one failure."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

from verify.interop.runtime import Answers, Ask, Bounds, RuntimeFailure, Task
from verify.sandbox import limits
from verify.sandbox.spawned import NoAnswerError, Python, Spawned, answer_all, describe


@contextlib.contextmanager
def isolated(module: str, settings: Any, bounds: Bounds, python: Python | None = None) -> Iterator[Ask]:
    """Give a function that lets `module.answer(task, settings)` answer in a child, started anew after a failure.

    `python` is what the child runs with, if it is not this Python: an emulator, another environment.
    """
    with _Child(module, settings, bounds, python) as child:
        yield child.ask


class _Child(Spawned):
    def __init__(self, module: str, settings: Any, bounds: Bounds, python: Python | None) -> None:
        self._module, self._settings, self._bounds = module, settings, bounds
        self._python, self._memory_gb = python, bounds.memory_gb

    def ask(self, task: Task) -> Answers:
        try:
            kind, value = self._request(self._start(), task, self._bounds.timeout_s)
        except NoAnswerError as error:
            raise RuntimeFailure(str(error)) from error
        if kind == "error":
            self.stop()  # what it holds after a failure is unknown
            raise RuntimeFailure(value)
        answers: Answers = value
        return answers

    def _start(self) -> Connection:
        return self._spawn(_serve, self._module, self._settings, self._bounds.memory_gb)


def _serve(pipe: Connection, module: str, settings: Any, memory_gb: float) -> None:
    limits.die_with_parent()
    limits.bound_data(int(memory_gb * 2**30))
    os.environ["HF_HUB_OFFLINE"] = "1"
    runtime = importlib.import_module(module)

    def answer(task: Task) -> tuple[str, Any]:
        try:
            return "ok", runtime.answer(task, settings)
        except Exception as error:  # noqa: BLE001  # whatever a runtime raises fails its check, and is reported
            return "error", describe(error)

    answer_all(pipe, answer)
