"""A Python process at the end of a pipe, started when first needed and ended at once; by another Python if asked."""

from __future__ import annotations

import contextlib
import multiprocessing
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from verify.sandbox import limits

LATE = "no answer within"  # how what has taken too long is worded
CHILD = "import sys; sys.path[:0] = {path!r}; from verify.sandbox.spawned import obey; obey({pipe})"


def _reduced(path: Path) -> tuple[Callable[[str], Path], tuple[str]]:
    return as_path, (str(path),)


def as_path(text: str) -> Path:
    """Make a path again. Python 3.13 keeps its class in a module that an older Python, at the other end, lacks."""
    return Path(text)


ForkingPickler.register(type(Path()), _reduced)


class Python(Protocol):
    """A Python other than this one: of another environment, or on an emulated processor."""

    @property
    def command(self) -> Sequence[str]:
        """Return what runs it, before Python's own arguments."""

    @property
    def path(self) -> Sequence[str]:
        """Return where it finds the project, and what its own directories lack, before its own modules."""


class NoAnswerError(Exception):
    """The process died, or took too long (`late`) and was ended."""

    def __init__(self, what: str, *, late: bool) -> None:
        super().__init__(what)
        self.late = late


class Spawned:
    """Owns such a process; `stop` may be called at any time, and the next `_spawn` starts anew."""

    _python: Python | None = None  # another than this one
    _memory_gb: float | None = None  # set on it from outside: an emulator ignores what the process in it sets
    _process: subprocess.Popen[bytes] | None = None
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
        return 0 if self._process is None else self._process.pid

    def stop(self) -> int | None:
        """End the process now; its exit code, negative if a signal ended it."""
        process, self._process = self._process, None
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None
        if process is None:
            return None
        try:
            return process.wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def _spawn(self, serve: Callable[..., None], *arguments: Any) -> Connection:
        """Return the pipe to `serve(pipe, *arguments)`, which runs until the pipe is closed."""
        if self._pipe is None:
            python = [sys.executable] if self._python is None else self._python.command
            path = sys.path if self._python is None else list(self._python.path)
            self._pipe, child = multiprocessing.Pipe()
            with child:  # a fork would inherit the parent's memory and thread pools
                command = [*python, "-c", CHILD.format(path=path, pipe=child.fileno())]
                self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[child.fileno()])
            if self._python is not None and self._memory_gb is not None:
                limits.bound_data(int(self._memory_gb * 2**30), self._process.pid)
            with contextlib.suppress(ConnectionError):  # it has died, as whoever uses the pipe is told
                _send(self._pipe, (serve, arguments))
        return self._pipe

    def _request(self, pipe: Connection, message: object, timeout_s: float) -> Any:
        """Return the process's answer; NoAnswerError if there is none, and then no process either."""
        try:
            _send(pipe, message)
            if pipe.poll(timeout_s):
                return pipe.recv()
        except (EOFError, ConnectionError) as error:
            raise NoAnswerError(f"its process died (exit code {self.stop()})", late=False) from error
        self.stop()
        raise NoAnswerError(f"{LATE} {timeout_s:g} s: its process was killed", late=True)


def _send(pipe: Connection, message: object) -> None:
    """Send a message of which nothing is left where that fails.

    Connection.send keeps the pickle's buffer and a view of it in its frames, so in the error's traceback: Python 3.13
    complains on stderr where the collector finds both at once.
    """
    pipe.send_bytes(bytes(ForkingPickler.dumps(message)))


def answer_all(pipe: Connection, answer: Callable[[Any], Any]) -> None:
    """Answer one message after the other, in the child, until the parent is gone or the user interrupts."""
    with contextlib.suppress(EOFError, ConnectionError, KeyboardInterrupt):
        while True:
            pipe.send(answer(pipe.recv()))


def obey(descriptor: int) -> None:
    """Call, in the child, the function that the parent sends first, with the other end of the pipe."""
    pipe = Connection(descriptor)
    serve, arguments = pipe.recv()
    serve(pipe, *arguments)


def describe(error: BaseException) -> str:
    """An error in one line, for the other end of the pipe: type, message, and the file and line that raised it."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})"
