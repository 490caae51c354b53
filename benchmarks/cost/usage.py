"""Wall time, processor time and memory of a command."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from pipeline.errors import InputError
from pipeline.plugins import ROOT

PERIOD_S = 0.1  # between two looks at all processes


@dataclass(frozen=True)
class Usage:
    """Seconds from start to end and on processors; bytes resident in the largest of the processes, and in all at once.

    The first of these is the kernel's figure, the second was looked at every PERIOD_S; what processes share counts for
    each.
    """

    wall_s: float
    processor_s: float  # of the command and of all its processes that have ended
    peak: int
    together: int


def timed(command: Sequence[object], log: Path, *, codes: Collection[int] = (0,)) -> Usage:
    """Run a command from the project's root, its output to `log`; InputError unless it ends with one of `codes`.

    The peak is the kernel's ru_maxrss of the child. A child starts with its parent's, so this process must stay
    smaller than what it measures: it imports no torch.
    """
    with log.open("wb") as stream:
        begin = time.perf_counter()
        child = subprocess.Popen([*map(str, command)], cwd=ROOT, stdout=stream, stderr=stream)
        ended, together = 0, 0
        while not ended:
            together = max(together, _resident(child.pid))
            time.sleep(PERIOD_S)
            ended, status, usage = os.wait4(child.pid, os.WNOHANG)  # not child.wait(): no usage of this child alone
        wall = time.perf_counter() - begin
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode not in codes:
        where = " ".join(map(str, command))
        raise InputError(f"it ended with exit code {child.returncode}", where=where, hint=f"see {log}")
    return Usage(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, together)


def _resident(pid: int) -> int:
    """Bytes resident in a process and all that descend from it."""
    total = 0
    with contextlib.suppress(psutil.NoSuchProcess):  # it has ended in between
        top = psutil.Process(pid)
        for process in (top, *top.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
    return total
