"""A process of one's own at the end of a pipe, started when first needed and ended at once."""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class Spawned:
    """What has such a process; `stop` may be called at any time, and the next `_spawn` starts anew."""

    _process: multiprocessing.process.BaseProcess | None = None
    _pipe: Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process's id; 0 when there is none."""
        return 0 if self._process is None else int(self._process.pid or 0)

    def stop(self) -> int | None:
        """End the process now; its exit code."""
        process, self._process = self._process, None
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None
        if process is None:
            return None
        process.join(timeout=0.5)
        if process.is_alive():
            process.kill()
        process.join()
        return process.exitcode

    def _spawn(self, serve: Callable[..., None], *arguments: Any) -> Connection:
        """The pipe to `serve(pipe, *arguments)`, which runs until the pipe is closed."""
        if self._pipe is None:
            context = multiprocessing.get_context("spawn")  # a fork would inherit the parent's memory and thread pools
            self._pipe, child = context.Pipe()
            self._process = context.Process(target=serve, args=(child, *arguments), daemon=True)
            self._process.start()
            child.close()
        return self._pipe


def describe(error: BaseException) -> str:
    """An error in one line, for the other end of the pipe: type, message, and the file and line that raised it."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})"
