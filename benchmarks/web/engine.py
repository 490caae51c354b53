"""Node with onnxruntime-web's wasm, which measures one file after the other."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from benchmarks.remote import settle
from pipeline.canonical import parse_json
from pipeline.errors import InputError
from pipeline.plugins import ROOT
from verify.interop.runtime import Bounds
from verify.runtimes import browser, transformersjs

SCRIPT = Path(__file__).resolve().parent / "decode.mjs"
FOLDER = transformersjs.HERE / "node_modules" / "onnxruntime-web" / "dist"  # the version that Transformers.js loads
NODE = transformersjs.Settings().node
PROMPT, STEPS = 16, 12  # tokens
COMPILING_S = 90.0  # the compiler's last function takes 45 s on a slow core
MOST = 300  # characters of an error that are shown


class EngineError(Exception):
    """The engine cannot load or run a file, or died, or gave no answer in time."""


@dataclass(frozen=True)
class Web:
    """The wasm build, by its name in verify/runtimes/browser; threads; what one process and one file may take."""

    wasm: str
    threads: int
    bounds: Bounds

    def check(self) -> None:
        """RecipeError for a build that there is not; InputError where Node or its packages are missing."""
        browser.Settings(builds=(self.wasm,), threads=(self.threads,)).check("--wasm, --threads")
        missing = transformersjs.missing(transformersjs.Settings())
        if missing is not None:
            raise InputError(f"not found: {missing.what}", where="benchmarks.web", hint=missing.command)


class Engine:
    """A Node process, started when the first file is measured and again after a file that failed.

    It measures all files, as a page keeps its engine too: what a wasm runs often is compiled anew in the background,
    for most of a minute after the start.
    """

    def __init__(self, web: Web, log: Path) -> None:
        self._web = web
        self._log = log
        self._child: subprocess.Popen[str] | None = None
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(b"")

    def measure(self, path: Path) -> Mapping[str, Any]:
        """Seconds of `load`, of `prefill` and in `decode` of each token, and `versions`; EngineError if it fails."""
        child = self._child = self._child or self._start()
        limit_s, begin = self._web.bounds.timeout_s, time.monotonic()
        timer = threading.Timer(limit_s, child.kill)
        timer.start()
        try:
            print(path.resolve(), file=cast(IO[str], child.stdin), flush=True)
            line = cast(IO[str], child.stdout).readline()
        except BrokenPipeError:
            line = ""
        finally:
            timer.cancel()
        if not line:
            self.close()
            late = time.monotonic() - begin >= limit_s
            died = f"its process died (exit code {child.returncode})"
            raise EngineError(f"no answer within {limit_s:g} s" if late else died)
        answer: dict[str, Any] = parse_json(line, path)
        if "error" in answer:
            self.close()  # a wasm that has aborted loads nothing any more
            raise EngineError(" ".join(answer["error"].split())[:MOST])
        return answer

    def settle(self) -> bool:
        """Wait for the compiler in the background; False if it is still at work after `COMPILING_S`."""
        return self._child is None or settle([self._child.pid], COMPILING_S)

    def close(self) -> None:
        """End the process at once: by itself it would first finish what it compiles in the background."""
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None

    def _start(self) -> subprocess.Popen[str]:
        web = self._web
        script = [NODE, SCRIPT, FOLDER, browser.BUILDS[web.wasm], web.threads, PROMPT, STEPS]
        guarded = [sys.executable, "-m", "verify.sandbox.launch", web.bounds.memory_gb, *script]
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [*map(str, guarded)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
