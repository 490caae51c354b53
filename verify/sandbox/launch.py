"""Run a foreign program within limits: `python -m verify.sandbox.launch GIB COMMAND...` sets them and becomes it.

The bounds are the kernel's, so they hold from the program's first instruction, whatever it does.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from pipeline.plugins import ROOT
from verify.interop.runtime import Bounds, RuntimeFailure
from verify.sandbox import limits

LAST_WORDS = 600  # characters of a program's own last output that a failure quotes
GRACE_S = 5.0


def launch(command: Sequence[str | Path], bounds: Bounds, environment: Mapping[str, str]) -> str:
    """The program's stdout; RuntimeFailure with its last words if it fails or is not done in time."""
    guarded = [sys.executable, "-m", "verify.sandbox.launch", str(bounds.memory_gb), *map(str, command)]
    with subprocess.Popen(
        guarded,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,  # so that what it started ends with it
    ) as child:
        try:
            out, err = child.communicate(timeout=bounds.timeout_s)
        except subprocess.TimeoutExpired as error:
            raise RuntimeFailure(f"no answer within {bounds.timeout_s:g} s") from error
        finally:
            _end(child)
    if child.returncode != 0:
        raise RuntimeFailure(f"exit code {child.returncode}: {(err or out).strip()[-LAST_WORDS:]}")
    return out


def end_children() -> None:
    """Kill every process that this one has started, and theirs: whoever waits for one is told that it died."""
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()


def _end(child: subprocess.Popen[str]) -> None:
    """End the program and all of its group: first politely, for a driver that has a browser of its own to end."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, number)
            child.wait(GRACE_S)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def _become(memory_gb: float, command: Sequence[str]) -> None:
    limits.die_with_parent(signal.SIGTERM)
    limits.bound_data(int(memory_gb * 2**30))
    os.execvp(command[0], list(command))  # noqa: S606  # no shell is the point


if __name__ == "__main__":
    _become(float(sys.argv[1]), sys.argv[2:])
