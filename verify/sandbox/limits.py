"""Set what the kernel does to a process that works on foreign files: it dies with its parent, and has bounds."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def die_with_parent(by: signal.Signals = signal.SIGKILL) -> None:
    """End this process when its parent ends: a killed parent cannot end a child that hangs; the kernel can.

    It leaves no core dump. Both are remembered across exec.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, by)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def bound_memory(limit: int) -> None:
    """Bound this process's address space, in bytes, all that it has mapped included."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def bound_data(limit: int, process: int = 0) -> None:
    """Bound the data, in bytes, of this process, or of another one: its own memory, not what it maps of files.

    JavaScript engines reserve far more addresses than they use, which a bound on addresses would refuse.
    """
    if process:
        resource.prlimit(process, resource.RLIMIT_DATA, (limit, limit))
    else:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def bound_more_memory(allowance: int) -> None:
    """Bound what this process may map from now on, in bytes, beside what it has mapped (libraries, mostly)."""
    try:
        mapped = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # no /proc: macOS, which does not enforce this limit either
        mapped = 0
    bound_memory(mapped + allowance)


def bound_more_cpu(seconds: int) -> None:
    """Kill this process (SIGXCPU) when it has used so many more seconds of processor time."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + 1 + seconds, hard))
