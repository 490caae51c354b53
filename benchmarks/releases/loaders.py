"""The programs of a release, as commands that answer lines (benchmarks/program.py)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.releases.catalogue import PYTHON, Release
from pipeline.canonical import read_json
from verify.runtimes import browser, transformersjs

HERE = Path(__file__).resolve().parent
NODE = transformersjs.Settings().node
# Transformers.js 3 loads a build that 4 does not.
BUILDS = {**browser.BUILDS, "jsep": "ort-wasm-simd-threaded.jsep"}


@dataclass(frozen=True)
class Loader:
    """One program of one release: its place in the results, and its command, the path of the questions left out.

    `whole` is Transformers.js itself, which is given texts and a folder; the others are sessions, given a file.
    """

    release: str
    program: str
    engine: str
    script: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    whole: bool = False

    def command(self, questions: Path) -> tuple[str, ...]:
        """Return the command that answers these questions."""
        return (*self.script, str(questions), *self.arguments)


def loaders(release: Release, folder: Path) -> Iterator[Loader]:
    """Yield the programs of a release that is installed in a folder."""
    if release.group == PYTHON:
        python = str(folder / "bin" / "python")
        engine = f"onnxruntime {release.version}"
        yield Loader(release.version, "python", engine, (python, "-I", str(HERE / "ask.py")))
        return
    engine = f"onnxruntime-node {_version(folder, 'onnxruntime-node')}"
    yield Loader(release.version, "node", engine, (NODE, str(HERE / "ask_library.mjs")), (str(folder),), whole=True)
    engine = f"onnxruntime-web {_version(folder, 'onnxruntime-web')}"
    files = str(folder / "node_modules" / "onnxruntime-web" / "dist")
    for place, build in enumerate(release.builds):
        program = "plain wasm" if place else "wasm"
        script = (NODE, str(HERE / "ask_web.mjs"))
        yield Loader(release.version, program, f"{engine}, {build}", script, (files, BUILDS[build]))


def _version(folder: Path, package: str) -> str:
    """Return the version of an installed npm package."""
    version: str = read_json(folder / "node_modules" / package / "package.json")["version"]
    return version
