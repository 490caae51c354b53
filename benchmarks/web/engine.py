"""Node with onnxruntime-web's wasm, which measures one file after the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.program import Program
from benchmarks.remote import settle
from pipeline.errors import InputError
from verify.interop.runtime import Bounds
from verify.runtimes import browser, transformersjs

SCRIPT = Path(__file__).resolve().parent / "decode.mjs"
FOLDER = transformersjs.HERE / "node_modules" / "onnxruntime-web" / "dist"  # the version that Transformers.js loads
NODE = transformersjs.Settings().node
PROMPT, STEPS = 16, 12  # tokens
COMPILING_S = 90.0  # the compiler's last function takes 45 s on a slow core


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


class NodeEngine(Program):
    """A Node process that measures all files, as a page keeps its engine too.

    What a wasm runs often is compiled anew in the background, for most of a minute after the start.
    """

    def __init__(self, web: Web, log: Path) -> None:
        script = [NODE, SCRIPT, FOLDER, browser.BUILDS[web.wasm], web.threads, PROMPT, STEPS]
        super().__init__([*map(str, script)], web.bounds, log)

    def measure(self, path: Path) -> Mapping[str, Any]:
        """Seconds of `load`, of `prefill` and in `decode` of each token, and `versions`; ProgramError if it fails."""
        return self.ask(str(path.resolve()))

    def settle(self) -> bool:
        """Wait for the compiler in the background; False if it is still at work after `COMPILING_S`."""
        return self.pid is None or settle([self.pid], COMPILING_S)
