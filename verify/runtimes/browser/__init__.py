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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.canonical import read_json
from pipeline.errors import RecipeError
from pipeline.typed import did_you_mean
from pipeline.variants import model_file
from verify.interop.likeliest import STATED
from verify.interop.runtime import Answers, Ask, Bounds, Missing, RuntimeFailure, Task
from verify.runtimes import transformersjs
from verify.runtimes.browser.server import PACKAGES, application, serving

PARTS = ("texts", "strings", "lengths")
UNREADABLE = None  # a string of JavaScript holds any text
HERE = Path(__file__).resolve().parent
# The builds of onnxruntime-web: the one that Transformers.js loads by itself, and the one that a page may name instead.
BUILDS = {"asyncify": "ort-wasm-simd-threaded.asyncify", "plain": "ort-wasm-simd-threaded"}
# Operators for which a build has no kernel on the processor, with the message that it gives.
LACKING = {
    "asyncify": {
        "GatherBlockQuantized": "onnxruntime-web 1.31.0-dev.20260914 says: Could not find an implementation for "
        "GatherBlockQuantized(1); only its WebGPU kernel is in this build",
    }
}
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
    """The browser's program (found on the path if empty), Node that drives it, wasm builds, and numbers of threads."""

    executable: str = ""
    node: str = "node"
    builds: tuple[str, ...] = ("asyncify", "plain")
    threads: tuple[int, ...] = (1, 2)

    def check(self, where: str) -> None:
        """RecipeError for a build that onnxruntime-web does not have, and for no thread."""
        for build in self.builds:
            if build not in BUILDS:
                raise RecipeError(f"no build {build!r}", where=f"{where}: builds", hint=did_you_mean(build, BUILDS))
        if not self.builds or not self.threads or min(self.threads) < 1:
            raise RecipeError("nothing to run", where=where, hint="name at least one build and one number of threads")


def missing(settings: Settings) -> Missing | None:
    """The browser, Node, its driver, or Transformers.js."""
    if _executable(settings) is None:
        return Missing("Chromium", f"apt-get install chromium, or name one with {VARIABLE}=/path/to/chrome")
    return transformersjs.missing(transformersjs.Settings(settings.node)) or transformersjs.lacking(HERE)


def unsupported(graph: Path, settings: Settings) -> Mapping[str, str]:
    """Builds without a kernel for one of the graph's operators."""
    import onnx

    used = {node.op_type for node in onnx.load(graph, load_external_data=False).graph.node}
    found = {}
    for build in settings.builds:
        for operator in sorted(used & LACKING.get(build, {}).keys()):
            found[build] = LACKING[build][operator]
    return found


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
        lacking = unsupported(task.repository / model_file(task.variant), settings)
        builds = [build for build in settings.builds if build not in lacking]
        configurations = [
            {"name": f"{build}, {count} thread{'s' if count > 1 else ''}", "wasm": BUILDS[build], "threads": count}
            for build in builds
            for count in settings.threads
        ]
        return _ask(settings, bounds, task, configurations) if configurations else {}

    yield ask


def _ask(settings: Settings, bounds: Bounds, task: Task, configurations: Sequence[Mapping[str, Any]]) -> Answers:
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    with tempfile.TemporaryDirectory() as scratch, serving(application(task.repository)) as origin:
        questions = {
            **task.questions,
            "model": "model",
            "dtype": task.variant,
            "stated": STATED,
            "origin": origin,
            "executable": _executable(settings),
            "profile": str(Path(scratch) / "profile"),
            "arguments": [*ARGUMENTS, *(["--no-sandbox"] if root else [])],  # Chromium refuses root a sandbox
            "configurations": [{**entry, "lengths": task.lengths(entry["name"])} for entry in configurations],
        }
        found = transformersjs.exchange([settings.node, HERE / "drive.mjs"], questions, bounds, Path(scratch))
    return {entry["name"]: _parts(entry) for entry in found["configurations"]}


def _parts(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """One configuration's answers; RuntimeFailure if anything was complained about, or threads were not given."""
    wanted, problems = entry["threads"], entry["problems"]
    if not problems and (entry["given"] != wanted or not entry["isolated"]):
        problems = [f"{wanted} threads asked, {entry['given']} given; isolated: {entry['isolated']}"]
    if problems:
        raise RuntimeFailure(f"{entry['name']}: {'; '.join(problems[:5])}")
    parts: Mapping[str, Any] = entry["parts"]
    return parts
