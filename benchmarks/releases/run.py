"""Let every program of every release answer about every file, and judge that."""

from __future__ import annotations

import json
import re
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
from benchmarks.releases.judge import Allowed, entry_of, forced, free
from benchmarks.releases.loaders import Loader
from benchmarks.releases.questions import Asked, Asker
from benchmarks.remote import Remote, RemoteError
from model.releases import FAILS, REFUSED, ReleasedFile
from pipeline.canonical import read_json
from pipeline.errors import InputError
from pipeline.recipe.recipe import Recipe
from pipeline.variants import model_file
from verify.interop.run_runtimes import assemble
from verify.interop.runtime import Bounds
from verify.run_checks import AT_A_TIME, Target, interval

MOST = 300  # characters of a message that are kept
# Where in onnxruntime's source a condition stands, before what it says: another place in every release.
SOURCE = re.compile(r"/onnxruntime_src/\S+:\d+ .*?\)(?: const)?(?: \[with [^\]]*\])? ")
REFERENCE_S = 600.0


@dataclass(frozen=True)
class Inquiry:
    """The files, each in a folder as the Hub would hold it; the questions, PyTorch's answers, and what is allowed."""

    repositories: Mapping[str, Path]  # by variant, with no other variant's graph
    asked: Asked
    questions: Path
    allowed: Mapping[str, Allowed]
    bounds: Bounds
    logs: Path

    def answers(self, loader: Loader, scratch: Path) -> Iterator[ReleasedFile]:
        """Yield a loader's entry for every variant."""
        log = self.logs / f"releases-{loader.program}-{loader.release}.txt".replace(" ", "-")
        with closing(Program(loader.command(self.questions), self.bounds, log)) as program:
            for variant in self.repositories:
                yield self._entry(loader, program, variant, scratch / "answers")

    def _entry(self, loader: Loader, program: Program, variant: str, answers: Path) -> ReleasedFile:
        repository = self.repositories[variant]
        model = repository if loader.whole else repository / model_file(variant)
        place = (loader.release, loader.program, loader.engine, variant)
        try:
            program.ask(json.dumps({"model": str(model), "dtype": variant, "answers": str(answers)}))
        except ProgramError as error:
            message = readable(str(error), repository)
            return ReleasedFile(*place, REFUSED if error.stage == "load" else FAILS, message=message)
        allowed = self.allowed[variant]
        texts = read_json(answers)["texts"] if loader.whole else None
        found = forced(self.asked, answers, allowed) if texts is None else free(self.asked, texts, allowed.whole)
        return entry_of(place, list(found))


def readable(message: str, repository: Path) -> str:
    """Return what a program said, without this machine's paths and the places in onnxruntime's source."""
    if message.isdigit():
        return "a number (the address of an exception in the wasm), and no message"
    return SOURCE.sub("", message.replace(f"{repository}/", ""))[:MOST]


def measure(recipe: Recipe, site: Site, loaders: Sequence[Loader]) -> list[ReleasedFile]:
    """Return the entries of all variants built, in the order of the loaders."""
    variants = ours.variants(site)
    targets = [Target(name, ours.place(site, name).path) for name in variants]
    asked = _asked(recipe, site)
    with tempfile.TemporaryDirectory() as scratch:
        inquiry = Inquiry(
            repositories={t.variant: assemble(targets, Path(scratch) / t.variant / "model", t) for t in targets},
            asked=asked,
            questions=Path(scratch) / "questions.json",
            allowed={name: _allowed(recipe, name) for name in variants},
            bounds=Bounds(recipe.verify.runtimes.timeout_s, recipe.verify.runtimes.memory_gb),
            logs=site.directory / "logs",
        )
        asked.write(inquiry.questions, site.dims)
        return list(_all(inquiry, loaders))


def _all(inquiry: Inquiry, loaders: Sequence[Loader]) -> Iterator[ReleasedFile]:
    """Yield every loader's entries in order, AT_A_TIME of them at work at a time."""
    total = len(loaders) * len(inquiry.repositories)
    with tqdm(total=total, unit=" files", dynamic_ncols=True, mininterval=interval()) as progress:

        def of(loader: Loader) -> list[ReleasedFile]:
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
