"""Chromium, headless, with Transformers.js on onnxruntime-web's wasm build: what a visitor of a page gets.

Errors of the page or its console, files that are missing and requests to anywhere else fail the variant. WebGPU is not
judged: a machine without a graphics processor has none, and this verdict must not depend on one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from artifact.canonical import read_json
from artifact.errors import RecipeError
from verify.runtime import Answers, Ask, Bounds, Missing, RuntimeFailure, Task
from verify.runtimes import transformersjs
from verify.runtimes.browser.server import PACKAGES, application, serving

PARTS = ("texts", "strings")
UNSUPPORTED: Mapping[str, str] = {}
UNREADABLE = None  # a string of JavaScript holds any text
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
    "--disable-gpu",
    "--metrics-recording-only",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-pings",
    "--disable-dev-shm-usage",
)


@dataclass(frozen=True)
class Settings:
    """The browser's program (found on the path if empty), Node that drives it, and numbers of wasm threads."""

    executable: str = ""
    node: str = "node"
    threads: tuple[int, ...] = (1, 2)

    def check(self, where: str) -> None:
        """RecipeError for no thread."""
        if not self.threads or min(self.threads) < 1:
            raise RecipeError("no threads", where=f"{where}: threads", hint="name at least one number of threads")


def missing(settings: Settings) -> Missing | None:
    """The browser, Node, its driver, or Transformers.js."""
    if _executable(settings) is None:
        return Missing("Chromium", f"apt-get install chromium (or name one: {VARIABLE}=/path/to/chrome)")
    return transformersjs.missing(transformersjs.Settings(settings.node)) or transformersjs.lacking(HERE)


def version(settings: Settings) -> str:
    """Of the browser and of what its page loads."""
    engine = read_json(PACKAGES / "onnxruntime-web" / "package.json")["version"]
    library = read_json(transformersjs.LIBRARY / "package.json")["version"]
    browser = _browser_version(_executable(settings) or "")
    return f"@huggingface/transformers {library}, onnxruntime-web {engine} (wasm), {browser}"


@cache
def _browser_version(executable: str) -> str:
    result = subprocess.run([executable, "--version"], capture_output=True, text=True, check=False, timeout=60)
    return " ".join(result.stdout.split()[:2]) or "a browser of unknown version"


def _executable(settings: Settings) -> str | None:
    named = os.environ.get(VARIABLE) or settings.executable
    return shutil.which(named) if named else next(filter(None, map(shutil.which, NAMES)), None)


@contextlib.contextmanager
def running(settings: Settings, bounds: Bounds) -> Iterator[Ask]:
    """A new browser with a new profile for every variant; its files are removed afterwards."""

    def ask(task: Task) -> Answers:
        with tempfile.TemporaryDirectory() as scratch, serving(application(task.repository)) as origin:
            root = hasattr(os, "geteuid") and os.geteuid() == 0
            questions = {
                **task.questions,
                "model": "model",
                "dtype": task.variant,
                "stated": transformersjs.STATED,
                "origin": origin,
                "executable": _executable(settings),
                "profile": str(Path(scratch) / "profile"),
                "arguments": [*ARGUMENTS, *(["--no-sandbox"] if root else [])],  # Chromium refuses root a sandbox
                "threads": settings.threads,
                "wasm": "ort-wasm-simd-threaded" + os.environ.get("WB", ""),
            }
            found = transformersjs.exchange([settings.node, HERE / "drive.mjs"], questions, bounds, Path(scratch))
        return _checked(found)

    yield ask


def _checked(found: Mapping[str, list[Mapping[str, object]]]) -> Answers:
    """The answers by number of threads; RuntimeFailure if anything was complained about, or threads were not given."""
    answers = {}
    for entry in found["configurations"]:
        wanted, problems = entry["wanted"], [str(problem) for problem in entry["problems"]]  # type: ignore[attr-defined]
        if not problems and (entry["threads"] != wanted or not entry["isolated"]):
            problems = [f"{wanted} threads asked, {entry['threads']} given; isolated: {entry['isolated']}"]
        if problems:
            raise RuntimeFailure(f"with {wanted} threads: {'; '.join(problems[:5])}")
        answers[f"{wanted} thread{'s' if wanted != 1 else ''}"] = entry["parts"]
    return answers  # type: ignore[return-value]
