"""Wall time and peak memory of a command."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from artifact.errors import InputError
from artifact.registry import ROOT


@dataclass(frozen=True)
class Usage:
    """Seconds from start to end, and the largest resident set of the command's processes in bytes."""

    wall_s: float
    peak: int


def timed(command: Sequence[object], log: Path, *, codes: Collection[int] = (0,)) -> Usage:
    """Run a command from the project's root, its output to `log`; InputError unless it ends with one of `codes`.

    The peak is the kernel's ru_maxrss of the child. A child starts with its parent's, so this process must stay
    smaller than what it measures: it imports no torch.
    """
    with log.open("wb") as stream:
        begin = time.perf_counter()
        child = subprocess.Popen([*map(str, command)], cwd=ROOT, stdout=stream, stderr=stream)
        _, status, usage = os.wait4(child.pid, 0)  # not child.wait(), which gives no usage of this child alone
        wall = time.perf_counter() - begin
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode not in codes:
        where = " ".join(map(str, command))
        raise InputError(f"it ended with exit code {child.returncode}", where=where, hint=f"see {log}")
    return Usage(wall, usage.ru_maxrss * 1024)
