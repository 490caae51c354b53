"""A process of its own for every candidate, so that a crash, a hang or a memory hog fails one check of one file."""

from __future__ import annotations

import ctypes
import functools
import itertools
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from verify.candidate.session import Cached, Candidate
from verify.check import Case, NotApplicable, Partial, load
from verify.emulation.emulator import SLOWER, Emulator, Wanted
from verify.sandbox import limits
from verify.sandbox.spawned import NoAnswerError, Spawned, answer_all, describe

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # <malloc.h>
# How libraries say within their messages that there is no memory.
NO_MEMORY = ("bad_alloc", "bad allocation", "llocate memory", "lloc failed")


# The file and its level, its twin and the level of that, heads and width of the cache where the graph leaves them open;
# and a number, because another file may lie at the same path.
Aim = tuple[Path, str, Path | None, str, Cached | None, int]


class CandidateError(Exception):
    """The candidate raised, crashed, ran out of memory or out of time while it was judged."""


class Worker(Spawned):
    """Runs checks on one ONNX file at one optimization level, within bounds; starts anew after a failure.

    One that has not answered in time is not asked again: every further check would wait as long. `aim` names another
    file, for the same process, and a twin, which is what the check `twin` compares the file with.
    """

    def __init__(
        self, path: Path, level: str, *, timeout_s: float, memory_gb: float, emulator: Emulator | None = None
    ) -> None:
        self._timeout_s = timeout_s if emulator is None else timeout_s * SLOWER
        self._memory_gb, self._emulator, self._python = memory_gb, emulator, emulator
        self._aims = itertools.count()
        self._abandoned = False
        self.aim(path, level)

    @property
    def path(self) -> Path:
        """The file that is judged."""
        return self._target[0]

    @property
    def level(self) -> str:
        """The optimization level that is judged at."""
        return self._target[1]

    def aim(
        self,
        path: Path,
        level: str,
        twin: Path | None = None,
        twin_level: str | None = None,
        cached: Cached | None = None,
    ) -> None:
        """Judge this file from now on, beside its twin, which runs at `twin_level`, if not at the same one."""
        self._target: Aim = (path, level, twin, twin_level or level, cached, next(self._aims))
        self._hung = False

    def abandon(self) -> None:
        """End the process from another thread, for good; whoever asks it is told that there will be no answer."""
        self._abandoned = True
        if self._process is not None:
            self._process.kill()

    def judge(self, check: str, case_directory: Path) -> Partial:
        """The check's partial result for one saved case; CandidateError or NotApplicable says why there is none."""
        if self._abandoned:
            raise CandidateError("not run, because all was stopped")
        if self._hung:
            raise CandidateError(f"not run, because an earlier check had no answer within {self._timeout_s:g} s")
        try:
            kind, value = self._request(self._start(), (self._target, check, case_directory), self._timeout_s)
        except NoAnswerError as error:
            self._hung |= error.late
            raise CandidateError(str(error)) from error
        if kind == "not run":
            raise NotApplicable(value)
        if kind == "error":
            raise CandidateError(value)
        partial: Partial = value
        return partial

    def _start(self) -> Connection:
        return self._spawn(_serve, self._memory_gb, None if self._emulator is None else self._emulator.wanted)


def _serve(pipe: Connection, memory_gb: float, processor: Wanted | None) -> None:
    limits.die_with_parent()
    limits.bound_memory(int(memory_gb * 2**30))
    _keep_freed_memory()
    wrong = None if processor is None else processor.differs()
    candidate = functools.lru_cache(1)(_candidate)

    def answer(message: tuple[Aim, str, Path]) -> tuple[str, Any]:
        aim, check, directory = message
        if wrong is not None:
            return "error", wrong
        try:
            return "ok", load(check).judge(candidate(aim), Case.load(directory))
        except NotApplicable as reason:
            return "not run", str(reason)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001  # whatever a foreign graph provokes fails that check; a panic in Rust is no Exception
            return "error", _reason(error, memory_gb)

    answer_all(pipe, answer)


def _keep_freed_memory() -> None:
    """Let malloc give nothing back, where it is the GNU library's: a sixth of the time went into mapping pages anew.

    Every pass over a long text allocates some hundred megabytes and frees them.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def _candidate(aim: Aim) -> Candidate:
    path, level, twin, twin_level, cached, _ = aim
    candidate = Candidate(path, level, None if twin is None else Candidate(twin, twin_level))
    candidate.cached = cached
    return candidate


def _reason(error: BaseException, memory_gb: float) -> str:
    text = str(error)
    if isinstance(error, MemoryError) or any(sign in text for sign in NO_MEMORY):
        return f"beyond its memory budget of {memory_gb:g} GB: {text or 'out of memory'}"
    return describe(error)
