"""A program in a process of its own that answers lines: each line sent to it gets one line of JSON back."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, cast

from pipeline.canonical import parse_json
from pipeline.plugins import ROOT
from verify.interop.runtime import Bounds


class ProgramError(Exception):
    """The program cannot do what the line asks for, or died, or gave no answer in time.

    `stage` is the program's own word for what it was at when it failed.
    """

    def __init__(self, what: str, stage: str = "") -> None:
        super().__init__(what)
        self.stage = stage


class Program:
    """The process, started when the first line is sent and again after a failure; its stderr is logged."""

    def __init__(
        self, command: Sequence[str | Path], bounds: Bounds, log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self._command = [sys.executable, "-m", "verify.sandbox.launch", str(bounds.memory_gb), *map(str, command)]
        self._environment = {**os.environ, **(environment or {})}
        self._limit_s = bounds.timeout_s
        self._log = log
        self._child: subprocess.Popen[str] | None = None
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(b"")

    @property
    def pid(self) -> int | None:
        """The process's id; None when there is none."""
        return None if self._child is None else self._child.pid

    def ask(self, line: str) -> Mapping[str, Any]:
        """Return the answer to one line; ProgramError if that is an `error`, or if there is none."""
        child = self._child = self._child or self._start()
        begin = time.monotonic()
        timer = threading.Timer(self._limit_s, child.kill)
        timer.start()
        try:
            print(line, file=cast(IO[str], child.stdin), flush=True)
            answered = cast(IO[str], child.stdout).readline()
        except BrokenPipeError:
            answered = ""
        finally:
            timer.cancel()
        if not answered:
            self.close()
            late = time.monotonic() - begin >= self._limit_s
            died = f"its process died (exit code {child.returncode})"
            raise ProgramError(f"no answer within {self._limit_s:g} s" if late else died)
        answer: dict[str, Any] = parse_json(answered, self._log)
        if "error" in answer:
            self.close()  # a wasm that has aborted loads nothing any more
            raise ProgramError(" ".join(answer["error"].split()), answer.get("stage", ""))
        return answer

    def close(self) -> None:
        """End the process at once: by itself, Node would first finish what it compiles in the background."""
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None

    def _start(self) -> subprocess.Popen[str]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
