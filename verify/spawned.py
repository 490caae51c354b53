"""A process of one's own at the end of a pipe, started when first needed and ended at once."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any


class Spawned:
    """What has such a process; `stop` may be called at any time, and the next `_spawn` starts anew."""

    _process: multiprocessing.process.BaseProcess | None = None
    _pipe: Connection | None = None

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
            context = multiprocessing.get_context("spawn")
            self._pipe, child = context.Pipe()
            self._process = context.Process(target=serve, args=(child, *arguments), daemon=True)
            self._process.start()
            child.close()
        return self._pipe
