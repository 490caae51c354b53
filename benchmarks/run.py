"""One benchmark: every engine in its process, measured in turns, then judged on the same text."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import engine
from benchmarks.arithmetic import Products, operations
from benchmarks.bandwidth import Memory
from benchmarks.engine import Array, FileSizes, Site
from benchmarks.kept import Kept
from benchmarks.progress import progress
from benchmarks.reference import Judge
from benchmarks.remote import Remote, RemoteError, settle
from benchmarks.results import Absent, EngineEntry, FileFidelity, Results, bytes_per_step, fidelity, speed
from benchmarks.scenario import Scenario
from benchmarks.schedule import spread, turns
from benchmarks.subject import MeasuredEngine
from pipeline.canonical import file_digest
from pipeline.command import say
from pipeline.errors import InputError
from pipeline.recipe.recipe import Recipe
from pipeline.typed import build
from verify.check import Partial
from verify.checks.divergence import Settings
from verify.sandbox.spawned import Python

WARM_S = 1800.0  # a compiler may be at work
TURN_S = 300.0
PEERS = "install the peers: make peers"


@dataclass
class Measured:
    """A configuration that is being measured, and what is known of it so far."""

    engine: str
    name: str
    place: FileSizes
    remote: Remote
    load_s: float = 0.0
    peak: int = 0
    peak_batch: int = 0
    seconds: dict[str, list[float]] = field(default_factory=dict)
    partials: list[Partial] = field(default_factory=list)
    fidelity: FileFidelity | None = None

    @property
    def key(self) -> str:
        """Its name in the results."""
        return f"{self.engine}/{self.name}"


@dataclass
class Sitting:
    """Run one benchmark and keep its state: which engines are still in, which are out and why."""

    recipe: Recipe
    site: Site
    scenarios: Sequence[Scenario]
    threads: int
    rounds: int
    kept: Kept
    judging: bool = True  # whether fidelity that is not known is measured
    python: Python | None = None  # what runs the engines, if not this one
    alive: list[Measured] = field(default_factory=list)
    absent: list[Absent] = field(default_factory=list)
    bandwidth: list[float] = field(default_factory=list)
    arithmetic: list[float] = field(default_factory=list)
    restless: int = 0

    def run(self, chosen: Sequence[tuple[str, str]]) -> Results:
        """Measure the chosen (engine, configuration) pairs; whatever fails is reported as absent, and why."""
        settings = build(
            Settings, self.recipe.verify.settings.get("divergence", {}), where=f"{self.recipe.path}: verify"
        )
        placed = [(key, place) for key in chosen if (place := self._place(*key)) is not None]
        with contextlib.ExitStack() as stack:
            judge = self._judge(stack, settings)
            text = self._consult(judge, "text", max(s.length for s in self.scenarios))
            for (name, configuration), place in placed:
                self._start(stack, name, configuration, place)
            self._warm(text)
            self._measure(text)
            self._compare(judge, settings.chunks)
        return self._results()

    def _place(self, name: str, configuration: str) -> FileSizes | None:
        own = engine.load(name)
        missing = engine.missing(own.requires(configuration))
        if missing:
            self._leave(f"{name}/{configuration}", f"not installed: {', '.join(missing)}", PEERS)
            return None
        try:
            place = own.place(self.site, configuration)
        except InputError as error:
            self._leave(f"{name}/{configuration}", error.what, error.hint)
            return None
        return place

    def _judge(self, stack: contextlib.ExitStack, settings: Settings) -> Remote:
        recipe, source = self.recipe, self.recipe.source
        arguments = (
            self.site.source,
            recipe.text_path,
            recipe.verify.seed,
            settings,
            self.threads,
            source.allow_pickle,
        )
        return stack.enter_context(Remote(self._log("reference"), Judge, *arguments))

    def _consult(self, judge: Remote, method: str, *arguments: object) -> Any:
        """Ask the reference; InputError when it cannot answer, for without it nothing is measured or compared."""
        try:
            return judge.call(method, *arguments, timeout_s=WARM_S)
        except RemoteError as error:
            log = self._log("reference")
            raise InputError(f"the reference failed: {error}", where=self.site.source, hint=f"see {log}") from error

    def _start(self, stack: contextlib.ExitStack, name: str, configuration: str, place: FileSizes) -> None:
        """Start a configuration's process and load its model there while all others wait."""
        log = self._log(f"{name}-{configuration}")
        arguments = (engine.load(name).SESSION, configuration, place.path, self.threads)
        remote = stack.enter_context(Remote(log, MeasuredEngine, *arguments, python=self.python))
        measured = Measured(name, configuration, place, remote)
        self.alive.append(measured)
        if self._ask(measured, "ready", timeout_s=WARM_S) is not None:
            self._settle()
            answer = self._ask(measured, "load", timeout_s=WARM_S)
            measured.load_s = answer[0] if answer is not None else 0.0

    def _warm(self, text: Array) -> None:
        """Every scenario once, untimed; the peaks of memory are taken here, where the order is the same for all."""
        for measured in progress("warm up", list(self.alive)):
            for scenario in self.scenarios:
                if self._ask(measured, "measure", scenario, text, timeout_s=WARM_S) is None:
                    break
                peak = (self._ask(measured, "peak", timeout_s=TURN_S) or [0])[0]
                measured.peak_batch = peak
                measured.peak = peak if scenario.batch == 1 else measured.peak

    def _measure(self, text: Array) -> None:
        memory, products = Memory(self.threads), Products()
        for number in range(self.rounds):
            self._settle()
            self.bandwidth.append(memory.read())
            self.arithmetic.append(products.rate())
            for place, scenario in enumerate(progress(f"round {number + 1} of {self.rounds}", self.scenarios)):
                for measured in turns(tuple(self.alive), number + place):
                    self._settle()
                    answer = self._ask(measured, "measure", scenario, text, timeout_s=TURN_S)
                    if answer is not None:
                        measured.seconds.setdefault(scenario.name, []).append(answer[0])

    def _compare(self, judge: Remote, chunks: int) -> None:
        """Judge what no earlier sitting has: every chunk once through the reference, then through every engine."""
        keys = {measured.key: self.kept.key(measured.key, measured.place.path) for measured in self.alive}
        for measured in self.alive:
            measured.fidelity = self.kept.find(keys[measured.key])
        if self.judging:
            self._judge_anew([measured for measured in self.alive if measured.fidelity is None], judge, chunks)
        for measured in self.alive:
            if measured.partials:
                measured.fidelity = fidelity(measured.partials)
                self.kept.add(keys[measured.key], measured.fidelity)

    def _judge_anew(self, unknown: Sequence[Measured], judge: Remote, chunks: int) -> None:
        """Gather each one's partial results; one chunk is on disk at a time."""
        with tempfile.TemporaryDirectory(dir=self.site.directory) as scratch:
            for number in progress("fidelity", range(chunks if unknown else 0)):
                left = [one for one in unknown if one in self.alive]
                if not left:
                    return
                case = Path(scratch) / "case"
                self._consult(judge, "case", number, case)
                for measured in left:
                    answer = self._ask(measured, "judge", case, timeout_s=WARM_S)
                    if answer is not None:
                        measured.partials.append(answer[0])
                shutil.rmtree(case)

    def _ask(self, measured: Measured, method: str, *arguments: object, timeout_s: float) -> list[Any] | None:
        """The answer in a list of one; None, and the configuration is out, when there is none."""
        try:
            return [measured.remote.call(method, *arguments, timeout_s=timeout_s)]
        except RemoteError as error:
            self.alive.remove(measured)
            measured.remote.stop()
            log = self._log(f"{measured.engine}-{measured.name}")
            self._leave(measured.key, f"failed ({method}): {error}", f"see {log.relative_to(self.site.directory)}")
            return None

    def _settle(self) -> None:
        if not settle(measured.remote.pid for measured in self.alive):
            self.restless += 1

    def _leave(self, key: str, reason: str, hint: str) -> None:
        say(f"{key}: absent: {reason}")
        self.absent.append(Absent(key, reason, hint))

    def _log(self, name: str) -> Path:
        return self.site.directory / "logs" / f"{name}.txt"

    def _results(self) -> Results:
        bandwidth, arithmetic = spread(self.bandwidth), spread(self.arithmetic)
        return Results(
            name=self.recipe.name,
            parameters=self.site.dims.parameters,
            rounds=self.rounds,
            threads=self.threads,
            scenarios=tuple(self.scenarios),
            bandwidth=bandwidth,
            arithmetic=arithmetic,
            entries=tuple(self._entry(measured, bandwidth.median, arithmetic.median) for measured in self.alive),
            absent=tuple(self.absent),
            restless=self.restless,
        )

    def _entry(self, measured: Measured, bandwidth: float, arithmetic: float) -> EngineEntry:
        dims = self.site.dims
        row = dims.cached * engine.load(measured.engine).CACHE_WIDTH
        limits = {
            s.name: bytes_per_step(s, measured.place.read, row) / bandwidth
            if s.kind == "decode"
            else operations(s, dims, self.site.tables) / arithmetic
            for s in self.scenarios
        }
        return EngineEntry(
            engine=measured.engine,
            name=measured.name,
            size=measured.place.size,
            read=measured.place.read,
            load_s=measured.load_s,
            peak=measured.peak,
            peak_batch=measured.peak_batch,
            speeds={s.name: speed(s, measured.seconds[s.name], limits[s.name]) for s in self.scenarios},
            fidelity=measured.fidelity,
            sha256=file_digest(measured.place.path) if measured.place.path.is_file() else None,
        )
