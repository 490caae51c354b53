"""Install every release, let each of its programs answer about every file, and judge that."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.engine import Site
from benchmarks.engines import ours
from benchmarks.program import Program, ProgramError
from benchmarks.releases.catalogue import PYTHON, Release
from benchmarks.releases.environment import package_version, prepare
from benchmarks.releases.judge import Answer, forced, free
from benchmarks.releases.judge import Bounds as Allowed
from benchmarks.releases.questions import Asked, Asker
from benchmarks.remote import Remote, RemoteError
from model.releases import DIFFERS, FAILS, REFUSED, RIGHT, Entry
from pipeline.canonical import read_json
from pipeline.errors import InputError
from pipeline.recipe.recipe import Recipe
from pipeline.variants import model_file
from verify.interop.run_runtimes import assemble
from verify.interop.runtime import Bounds
from verify.run_checks import AT_A_TIME, Target, interval
from verify.runtimes import browser, transformersjs

HERE = Path(__file__).resolve().parent
NODE = transformersjs.Settings().node
JSEP = "ort-wasm-simd-threaded.jsep"  # the build that Transformers.js 3 loads; those of 4 are verify's
MOST = 300  # characters of a message that are kept
REFERENCE_S = 600.0


@dataclass(frozen=True)
class Loader:
    """One program of one release: its place in the results, and the command that answers lines."""

    release: str
    program: str
    engine: str
    command: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Whether it is Transformers.js itself, which is given texts and a folder."""
        return self.program == "node"


@dataclass(frozen=True)
class Inquiry:
    """The files, in a folder as the Hub would hold them; the questions with PyTorch's answers; and what is allowed."""

    repository: Path
    variants: Sequence[str]
    asked: Asked
    questions: Path
    allowed: Mapping[str, Allowed]
    bounds: Bounds
    logs: Path

    def answers(self, loader: Loader, scratch: Path) -> Iterator[Entry]:
        """Yield a loader's entry for every variant."""
        log = self.logs / f"releases-{loader.program}-{loader.release}.txt".replace(" ", "-")
        with closing(Program(loader.command, self.bounds, log)) as program:
            for variant in self.variants:
                yield self._entry(loader, program, variant, scratch)

    def _entry(self, loader: Loader, program: Program, variant: str, scratch: Path) -> Entry:
        path = scratch / "answers"
        model = self.repository if loader.whole else self.repository / model_file(variant)
        place = (loader.release, loader.program, loader.engine, variant)
        try:
            program.ask(json_line(model=model, dtype=variant, answers=path))
        except ProgramError as error:
            message = str(error).replace(f"{model}", model.name).replace(str(self.repository), "model")[:MOST]
            return Entry(*place, REFUSED if error.stage == "load" else FAILS, message=message)
        allowed = self.allowed[variant]
        found = free(self.asked, read_json(path)["texts"], allowed.whole) if loader.whole else None
        return judged(place, list(found or forced(self.asked, path, allowed)))


def json_line(**values: object) -> str:
    """Return one line of JSON, paths as text."""
    return json.dumps({key: str(value) for key, value in values.items()})


def judged(place: tuple[str, str, str, str], answers: Sequence[Answer]) -> Entry:
    """Return the entry of a program that answered: right, or which questions are not and by how much."""
    wrong = tuple(answer.question for answer in answers if not answer.right)
    worst = max(answers, key=lambda answer: answer.error / answer.allowed)
    return Entry(*place, DIFFERS if wrong else RIGHT, worst.error, worst.allowed, wrong)


def measure(recipe: Recipe, site: Site, chosen: Sequence[Release], cache: Path) -> list[Entry]:
    """Return the entries of all variants built, in the order of the releases; installs what is not there."""
    variants = ours.names(site)
    targets = [Target(name, ours.place(site, name).path) for name in variants]
    loaders = [loader for release in chosen for loader in _loaders(release, prepare(release, cache), site)]
    with tempfile.TemporaryDirectory() as scratch:
        asked = _asked(recipe, site)
        inquiry = Inquiry(
            repository=assemble(targets, Path(scratch) / "model"),
            variants=variants,
            asked=asked,
            questions=_questions(site),
            allowed={name: _allowed(recipe, name) for name in variants},
            bounds=Bounds(recipe.verify.runtimes.timeout_s, recipe.verify.runtimes.memory_gb),
            logs=site.directory / "logs",
        )
        asked.write(inquiry.questions, site.dims)
        return list(_all(inquiry, loaders))


def _all(inquiry: Inquiry, loaders: Sequence[Loader]) -> Iterator[Entry]:
    """Yield every loader's entries in order, AT_A_TIME of them at work at a time."""
    total = len(loaders) * len(inquiry.variants)
    with tqdm(total=total, unit=" files", dynamic_ncols=True, mininterval=interval()) as progress:

        def of(loader: Loader) -> list[Entry]:
            entries = []
            with tempfile.TemporaryDirectory() as scratch:
                for entry in inquiry.answers(loader, Path(scratch)):
                    progress.set_description_str(f"{loader.engine}: {entry.variant} {entry.verdict}", refresh=False)
                    progress.update()
                    entries.append(entry)
            return entries

        with ThreadPoolExecutor(AT_A_TIME) as threads:
            for entries in threads.map(of, loaders):
                yield from entries


def _loaders(release: Release, folder: Path, site: Site) -> Iterator[Loader]:
    """Yield the programs of an installed release."""
    questions = str(_questions(site))
    if release.group == PYTHON:
        command = (str(folder / "bin" / "python"), "-I", str(HERE / "ask.py"), questions)
        yield Loader(release.version, "python", f"onnxruntime {release.version}", command)
        return
    if shutil.which(NODE) is None:
        lacks = transformersjs.missing(transformersjs.Settings())
        raise InputError("Node not found", where=release.version, hint=lacks.command if lacks else "make setup")
    engine = f"onnxruntime-node {package_version(folder, 'onnxruntime-node')}"
    yield Loader(release.version, "node", engine, (NODE, str(HERE / "ask_library.mjs"), questions, str(folder)))
    engine = f"onnxruntime-web {package_version(folder, 'onnxruntime-web')}"
    dist = str(folder / "node_modules" / "onnxruntime-web" / "dist")
    for place, build in enumerate(release.builds):
        command = (NODE, str(HERE / "ask_web.mjs"), questions, dist, {**browser.BUILDS, "jsep": JSEP}[build])
        yield Loader(release.version, "plain wasm" if place else "wasm", f"{engine}, {build} build", command)


def _questions(site: Site) -> Path:
    return (site.directory / "releases-questions.json").resolve()


def _allowed(recipe: Recipe, variant: str) -> Allowed:
    whole, step = (recipe.limit(check, "max_abs", variant).bound for check in ("logits", "cache"))
    return Allowed(whole, step)


def _asked(recipe: Recipe, site: Site) -> Asked:
    """Return the questions and PyTorch's answers; InputError when it has none."""
    log = site.directory / "logs" / "releases-reference.txt"
    arguments: tuple[Any, ...] = (site.source, recipe.text_path, recipe.verify.seed, recipe.source.allow_pickle)
    with Remote(log, Asker, *arguments) as remote:
        try:
            asked: Asked = remote.call("ask", timeout_s=REFERENCE_S)
        except RemoteError as error:
            raise InputError(f"the reference failed: {error}", where=site.source, hint=f"see {log}") from error
    return asked
