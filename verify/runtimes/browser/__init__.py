"""Chromium, headless, with Transformers.js on onnxruntime-web, in WebAssembly and on WebGPU: what visitors get.

Errors of the page or its console, files that are missing and requests to anywhere else fail the variant. WebGPU runs on
the machine's graphics processor where the browser offers it, else on Chromium's adapter in software, which is an
adapter with small subgroups; and once more with subgroups hidden from the page, as on adapters that have none.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.canonical import read_json
from pipeline.errors import RecipeError
from pipeline.typed import did_you_mean
from pipeline.variants import model_file
from verify.interop.likeliest import STATED
from verify.interop.runtime import Answers, Ask, Bounds, Missing, RuntimeFailure, Task
from verify.runtimes import transformersjs
from verify.runtimes.browser import adapter
from verify.runtimes.browser.adapter import Adapter
from verify.runtimes.browser.driver import GRAPHICS, VARIABLE, Browser, find
from verify.runtimes.browser.server import PACKAGES

PARTS = ("texts", "strings", "lengths", "unrounded")
UNREADABLE = None  # a string of JavaScript holds any text
IN_PLACE = False
SLOW = True
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
WEBGPU, HIDDEN = "webgpu", "webgpu, subgroups hidden"


@dataclass(frozen=True)
class Settings:
    """The browser's program (found on the path if empty), Node that drives it, wasm builds, and numbers of threads.

    `webgpu`: which of its two configurations are run.
    """

    executable: str = ""
    node: str = "node"
    builds: tuple[str, ...] = ("asyncify", "plain")
    threads: tuple[int, ...] = (1, 2)
    webgpu: tuple[str, ...] = (WEBGPU, HIDDEN)

    def check(self, where: str) -> None:
        """RecipeError for a build or a configuration that there is not, and for nothing to run."""
        for build in self.builds:
            if build not in BUILDS:
                raise RecipeError(f"no build {build!r}", where=f"{where}: builds", hint=did_you_mean(build, BUILDS))
        for name in self.webgpu:
            if name not in (WEBGPU, HIDDEN):
                hint = did_you_mean(name, (WEBGPU, HIDDEN))
                raise RecipeError(f"no configuration {name!r}", where=f"{where}: webgpu", hint=hint)
        if not configurations(self) or min(self.threads, default=1) < 1:
            hint = "name at least one build and one number of threads, or one configuration of WebGPU"
            raise RecipeError("nothing to run", where=where, hint=hint)


@dataclass(frozen=True)
class PageSetup:
    """State how the page is asked: Transformers.js' device, the wasm file, threads, and whether it sees subgroups."""

    name: str
    device: str
    wasm: str
    threads: int = 1
    hidden: bool = False


EVERY = Settings()


def configurations(settings: Settings) -> Mapping[str, PageSetup]:
    """All that the recipe names, by what reports call them. WebGPU's kernels are in the wasm build "asyncify"."""
    wasm = [
        PageSetup(f"{build}, {count} thread{'s' if count > 1 else ''}", "wasm", BUILDS[build], count)
        for build in settings.builds
        for count in settings.threads
    ]
    webgpu = [PageSetup(name, "webgpu", BUILDS["asyncify"], hidden=name == HIDDEN) for name in settings.webgpu]
    return {entry.name: entry for entry in (*wasm, *webgpu)}


def missing(settings: Settings) -> Missing | None:
    """The browser, Node, its driver, or Transformers.js."""
    if find(settings.executable) is None:
        return Missing("Chromium", f"apt-get install chromium, or name one with {VARIABLE}=/path/to/chrome")
    return transformersjs.missing(transformersjs.Settings(settings.node)) or transformersjs.lacking(HERE)


def absent(settings: Settings) -> Mapping[str, Missing]:
    """The configurations of WebGPU, if the browser offers its pages no adapter."""
    own = _adapter(settings)
    return dict.fromkeys(settings.webgpu, own) if isinstance(own, Missing) else {}


def unsupported(graph: Path, settings: Settings) -> Mapping[str, str]:
    """Configurations without a kernel for one of the graph's operators, or without its arithmetic."""
    import onnx

    model = onnx.load(graph, load_external_data=False)
    used = {node.op_type for node in model.graph.node}
    found: dict[str, str] = {}
    for build in settings.builds:
        for operator in sorted(used & LACKING.get(build, {}).keys()):
            found |= dict.fromkeys(_of_build(settings, build), LACKING[build][operator])
    own = _adapter(settings)
    if isinstance(own, Adapter) and (reason := adapter.lacks(own, model)) is not None:
        found |= dict.fromkeys(settings.webgpu, reason)
    elif isinstance(own, Adapter) and own.subgroups is None and HIDDEN in settings.webgpu:
        found[HIDDEN] = f"{own.name} has no subgroups to hide"
    return found


def _of_build(settings: Settings, build: str) -> list[str]:
    own = configurations(settings).values()
    return [entry.name for entry in own if entry.device == "wasm" and entry.wasm == BUILDS[build]]


def version(settings: Settings) -> str:
    """Of the browser and of what its page loads, and the adapter of WebGPU."""
    engine = read_json(PACKAGES / "onnxruntime-web" / "package.json")["version"]
    library = read_json(transformersjs.LIBRARY / "package.json")["version"]
    own = _adapter(settings)
    webgpu = f"; WebGPU: {own.text if isinstance(own, Adapter) else 'no adapter'}" if settings.webgpu else ""
    browser = _browser(settings).version
    return f"@huggingface/transformers {library}, onnxruntime-web {engine}, {browser}{webgpu}"


def _adapter(settings: Settings) -> Adapter | Missing | None:
    """Return what pages get, or lack; None where the recipe does not ask for WebGPU."""
    if not settings.webgpu:
        return None
    return _browser(settings).adapter()


def _browser(settings: Settings) -> Browser:
    return Browser(find(settings.executable) or "", settings.node)


@contextlib.contextmanager
def running(settings: Settings, bounds: Bounds) -> Iterator[Ask]:
    """A new browser with a new profile for every variant, and another one for WebGPU; files are removed afterwards."""

    def ask(task: Task) -> Answers:
        without = {*unsupported(task.repository / model_file(task.variant), settings), *absent(settings)}
        without |= {name for name in configurations(settings) if task.extent(name).nothing}
        answers: dict[str, Mapping[str, Any] | RuntimeFailure] = {}
        for device in GRAPHICS:
            own = [c for name, c in configurations(settings).items() if c.device == device and name not in without]
            answers |= _ask(settings, bounds, task, own) if own else {}
        return answers

    yield ask


def _ask(settings: Settings, bounds: Bounds, task: Task, asked: Sequence[PageSetup]) -> Answers:
    """The answers of configurations of one device; a browser that fails or is late leaves the other's answers."""
    questions = {**task.questions, "model": "model", "dtype": task.variant, "stated": STATED}
    calls = [
        {"call": "ask", **questions, **asdict(c), "groups": task.groups(c.name), "lengths": task.lengths(c.name)}
        for c in asked
    ]
    try:
        found = _browser(settings).call(asked[0].device, calls, task.repository, bounds)
    except RuntimeFailure as failure:
        return {entry.name: failure for entry in asked}
    return {entry.name: _parts(entry, answer) for entry, answer in zip(asked, found, strict=True)}


def _parts(asked: PageSetup, answer: Mapping[str, Any]) -> Mapping[str, Any] | RuntimeFailure:
    """One configuration's answers; a failure if anything was complained about, or it was not run as it was asked."""
    problems, found = answer["problems"], answer["found"]
    if not problems and (found["given"] != asked.threads or not found["isolated"]):
        problems = [f"{asked.threads} threads asked, {found['given']} given; isolated: {found['isolated']}"]
    if not problems and asked.device == "webgpu" and not found["kernels"]:
        problems = ["WebGPU was asked for, but nothing ran on its adapter"]
    if not problems and asked.hidden and (own := adapter.read(found["adapter"])) is not None and own.subgroups:
        problems = ["subgroups were to be hidden, but the page sees them"]
    if problems:
        return RuntimeFailure(f"{asked.name}: {'; '.join(problems[:5])}")
    parts: Mapping[str, Any] = found["parts"]
    return parts
