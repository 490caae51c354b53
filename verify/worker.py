"""A process of its own for every candidate, so that a crash, a hang or a memory hog fails one check of one file."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import resource
import signal
import sys
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Self

from verify.candidate import Candidate
from verify.check import Case, NotRun, Partial, load


class CandidateError(Exception):
    """The candidate raised, crashed, ran out of memory or out of time while it was judged."""


class Worker:
    """Runs checks on one ONNX file at one optimization level, within bounds; starts anew after a failure.

    `twin` is what the check `twin` compares the file with. `aim` names another file, for the same process.
    """

    def __init__(self, path: Path, level: str, *, timeout_s: float, memory_gb: float, twin: Path | None = None) -> None:
        self._target = (path, level, twin)
        self._timeout_s, self._memory_gb = timeout_s, memory_gb
        self._process: multiprocessing.process.BaseProcess | None = None
        self._pipe: Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def aim(self, path: Path, level: str, twin: Path | None = None) -> None:
        """Judge this file from now on."""
        self._target = (path, level, twin)

    def judge(self, check: str, case_directory: Path) -> Partial:
        """The check's partial result for one saved case; CandidateError or NotRun says why there is none."""
        pipe = self._start()
        try:
            pipe.send((self._target, check, case_directory))
            if not pipe.poll(self._timeout_s):
                self.stop()
                raise CandidateError(f"no answer within {self._timeout_s:g} s")
            kind, value = pipe.recv()
        except (EOFError, ConnectionError) as error:
            code = self.stop()
            raise CandidateError(f"its process died (exit code {code})") from error
        if kind == "not run":
            raise NotRun(value)
        if kind == "error":
            raise CandidateError(value)
        partial: Partial = value
        return partial

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

    def _start(self) -> Connection:
        if self._pipe is None:
            context = multiprocessing.get_context("spawn")
            self._pipe, child = context.Pipe()
            self._process = context.Process(target=_serve, args=(child, self._memory_gb), daemon=True)
            self._process.start()
            child.close()
        return self._pipe


def _serve(pipe: Connection, memory_gb: float) -> None:
    if sys.platform == "linux":
        # A killed parent cannot end a candidate that hangs; the kernel can (prctl's PR_SET_PDEATHSIG is 1).
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    limit = int(memory_gb * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    candidate: Candidate | None = None
    with contextlib.suppress(EOFError, ConnectionError, KeyboardInterrupt):  # the parent is gone, or the user is
        while True:
            (path, level, twin), check, directory = pipe.recv()
            if candidate is None or candidate.target != (path, level, twin):
                candidate = Candidate(path, level, twin)
            try:
                answer = ("ok", load(check).judge(candidate, Case.load(directory)))
            except NotRun as reason:
                answer = ("not run", str(reason))
            except Exception as error:  # noqa: BLE001  # whatever a foreign graph provokes fails that check, and is reported
                last = traceback.extract_tb(error.__traceback__)[-1]
                answer = ("error", f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})")
            pipe.send(answer)
