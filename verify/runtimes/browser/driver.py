"""Drive a browser: what it is started with, the adapter of WebGPU that it offers its pages, and calls of the page."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from verify.interop.runtime import Bounds, Missing, RuntimeFailure
from verify.runtimes import transformersjs
from verify.runtimes.browser import adapter
from verify.runtimes.browser.adapter import Adapter
from verify.runtimes.browser.server import application, serving

HERE = Path(__file__).resolve().parent
VARIABLE = "CHROMIUM"  # names the browser's program, before the recipe does
NAMES = ("chromium", "chromium-browser", "google-chrome")
# No service of the browser's own may reach the network, show a dialogue, or slow the page because nobody looks at it.
ARGUMENTS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--metrics-recording-only",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-pings",
    "--disable-dev-shm-usage",
)
# WebAssembly needs no graphics processor. WebGPU takes the machine's, for which Chromium on Linux needs Vulkan and no
# list of refused ones, else the adapter in software, which it offers to nobody who does not ask for what is unsafe.
GRAPHICS = {
    "wasm": ("--disable-gpu",),
    "webgpu": ("--enable-unsafe-webgpu", "--enable-features=Vulkan", "--ignore-gpu-blocklist"),
}
PROBE = Bounds(timeout_s=120, memory_gb=8)


@dataclass(frozen=True)
class Browser:
    """A browser's program, and the Node that drives it."""

    executable: str
    node: str

    def call(
        self, device: str, calls: Sequence[Mapping[str, Any]], repository: Path, bounds: Bounds
    ) -> Sequence[Mapping[str, Any]]:
        """Return what a page of its own found for each call, and the complaints. RuntimeFailure for no answer.

        The browser is a new one with a new profile, started for `device`; its files are removed afterwards.
        """
        root = hasattr(os, "geteuid") and os.geteuid() == 0
        sandbox = ("--no-sandbox",) if root else ()  # Chromium refuses root a sandbox
        with tempfile.TemporaryDirectory() as scratch, serving(application(repository)) as origin:
            asked = {
                "origin": origin,
                "executable": self.executable,
                "profile": str(Path(scratch) / "profile"),
                "arguments": [*ARGUMENTS, *GRAPHICS[device], *sandbox],
                "calls": calls,
            }
            answers = transformersjs.exchange([self.node, HERE / "drive.mjs"], asked, bounds, Path(scratch))
        found: Sequence[Mapping[str, Any]] = answers["calls"]
        return found

    @property
    def version(self) -> str:
        """Of the browser, in its own words."""
        return _version(self.executable)

    def adapter(self) -> Adapter | Missing:
        """The adapter that the browser offers its pages, which is asked for once."""
        return _adapter(self, GRAPHICS["webgpu"])


def find(named: str) -> str | None:
    """The browser's program: what the environment names, the recipe, or the first that is installed."""
    named = os.environ.get(VARIABLE) or named
    return shutil.which(named) if named else next(filter(None, map(shutil.which, NAMES)), None)


@cache
def _version(executable: str) -> str:
    result = subprocess.run([executable, "--version"], capture_output=True, text=True, check=False, timeout=60)
    return " ".join(result.stdout.split()[:2]) or "a browser of unknown version"


@cache
def _adapter(browser: Browser, _arguments: tuple[str, ...]) -> Adapter | Missing:
    problems: Sequence[str] = ()
    with tempfile.TemporaryDirectory() as empty:
        try:
            (answer,) = browser.call("webgpu", [{"call": "adapter"}], Path(empty), PROBE)
            problems = answer["problems"]
        except RuntimeFailure as failure:
            problems = [str(failure)]
    if not problems and (found := adapter.read(answer["found"])) is not None:
        return found
    reason = (
        f"could not be asked for: {'; '.join(problems[:5])}" if problems else f"is not offered by {browser.version}"
    )
    return Missing("a WebGPU adapter", f"name a browser that has one with {VARIABLE}=/path/to/chrome", reason)
