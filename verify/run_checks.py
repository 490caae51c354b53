"""Run every check on every candidate in one pass: each case is computed once by the reference, then judged by all."""

from __future__ import annotations

import contextlib
import math
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from pipeline.errors import RecipeError
from pipeline.recipe.recipe import Recipe
from pipeline.typed import build
from verify.candidate.session import Cached
from verify.check import Case, Check, NotApplicable, Partial, load
from verify.emulation.emulator import Emulator
from verify.reference.corpus import Corpus
from verify.sandbox.pool import Pool
from verify.sandbox.worker import CandidateError, Worker
from verify.verdict import Judged, Result, judge

if TYPE_CHECKING:  # torch takes seconds to load
    from verify.reference.model import Reference

GROUP = 3 * 2**30  # bytes of cases on disk at a time; for every group each candidate's process is started anew
AT_A_TIME = 2  # candidates, which divide the cores: a small machine has no memory for more


@dataclass(frozen=True)
class Target:
    """An ONNX file to judge, by the tolerances of a variant."""

    variant: str
    path: Path
    twin: Path | None = None  # of a foreign file what the recipe makes in its place; of one in place the other graph
    own_twin: bool = False  # its digest has said that it is what the recipe makes: no file is needed beside it
    twin_level: str | None = None  # that the twin runs at, where it is the levels that are compared
    data: tuple[Path, ...] = ()  # files that hold numbers of the graph
    cached: Cached | None = None  # for a graph that leaves them open, as loaders take them from config.json


Slot = tuple[Target, str]  # a candidate at an optimization level
Known = dict[Slot, dict[str, float]]  # by "check.figure", at most the bound: what failed excuses nothing later


def plan(recipe: Recipe, checks: Sequence[str]) -> dict[str, Check]:
    """The checks' modules, each after those it needs; RecipeError when one needs a check that is not run."""
    modules: dict[str, Check] = {}
    waiting = {name: load(name) for name in checks}
    while waiting:
        ready = [name for name, module in waiting.items() if all(need in modules for need in module.NEEDS)]
        if not ready:
            name, module = next(iter(waiting.items()))
            where = f"{recipe.path}: verify.checks"
            raise RecipeError(f"{name} needs {', '.join(module.NEEDS)}", where=where, hint="add it to verify.checks")
        for name in ready:
            modules[name] = waiting.pop(name)
    return modules


def settings_of(recipe: Recipe, modules: Mapping[str, Check]) -> dict[str, Any]:
    """Each check's settings from the recipe; RecipeError for a key or value that the check does not know."""
    return {
        name: build(module.Settings, recipe.verify.settings.get(name, {}), where=f"{recipe.path}: verify.{name}")
        for name, module in modules.items()
    }


@dataclass
class Evidence:
    """Hold what one check gathered on one candidate: a partial result for every case, or why it stopped."""

    partials: list[Partial] = field(default_factory=list)
    failure: str | None = None
    not_run: str | None = None


@dataclass(frozen=True)
class Saved:
    """A case on disk, waiting to be judged by every candidate."""

    check: str
    name: str
    directory: Path


@dataclass(frozen=True)
class Examination:
    """Everything the candidates are judged with. `run` may be called once: cases draw on the reference's state.

    The reference computes cases until GROUP bytes of them lie on disk; then the candidates judge them, AT_A_TIME at
    once. So many sessions are in memory, whatever the number of candidates, and the disk holds one group.
    """

    recipe: Recipe
    reference: Reference
    corpus: Corpus
    modules: Mapping[str, Check]
    settings: Mapping[str, Any]
    emulator: Emulator | None = None  # of another processor, which the candidates are run on

    def run(self, targets: Sequence[Target], home: Path, known: Known | None = None) -> list[Result]:
        """Results of all checks for all targets at all levels; cases lie below `home` for a while.

        `known` holds what was measured of the candidates before, for checks that need it, and gains what is now.

        Raises RecipeError, before any work, for settings that do not fit the model.
        """
        verify = self.recipe.verify
        for check, settings in self.settings.items():
            settings.check(f"{self.recipe.path}: verify.{check}", self.reference.context)
        slots = [(target, level) for target in targets for level in verify.levels]
        evidence = {
            (check, slot): Evidence() for check in self.modules for slot in slots if self._concerns(check, slot)
        }
        with contextlib.ExitStack() as stack:
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=home)))
            progress = stack.enter_context(
                tqdm(unit=" runs", dynamic_ncols=True, desc="verify", mininterval=interval())
            )
            pool = stack.enter_context(Pool(verify, most=min(AT_A_TIME, len(slots)), emulator=self.emulator))
            for group in self._groups(scratch, progress):

                def one(worker: Worker, slot: Slot, group: Sequence[Saved] = group) -> None:
                    worker.aim(slot[0].path, slot[1], slot[0].twin, slot[0].twin_level, slot[0].cached)
                    self._judge(worker, slot, group, evidence, progress)
                    worker.stop()  # the next candidate has a process of its own

                # The last level has the most work; the least comes last, so that the two end together.
                for _ in pool.map(one, sorted(slots, key=lambda slot: slot[1] != verify.levels[-1])):
                    pass
        known = {} if known is None else known
        return [self._conclude(key[0], key[1], own, known.setdefault(key[1], {})) for key, own in evidence.items()]

    def _concerns(self, check: str, slot: Slot) -> bool:
        module, (target, level) = self.modules[check], slot
        if module.JUDGES == "twin" and target.own_twin:
            return False
        return module.PER_LEVEL or level == self.recipe.verify.levels[-1]

    def prepare(self, scratch: Path) -> list[Saved]:
        """All cases, saved below `scratch` once, so that `judge` can be called for many files."""
        with tqdm(disable=True) as progress:
            return [case for group in self._groups(scratch, progress, math.inf) for case in group]

    def judge(self, worker: Worker, target: Target, cases: Sequence[Saved]) -> list[Result]:
        """Results of the prepared cases' checks for one file, in a worker that may have judged others."""
        results = []
        for level in self.recipe.verify.levels:
            slot, observed = (target, level), dict[str, float]()
            checks = [check for check in self.modules if self._concerns(check, slot)]
            own = [case for case in cases if case.check in checks]
            evidence = {(check, slot): Evidence() for check in dict.fromkeys(case.check for case in own)}
            worker.aim(target.path, level, target.twin, target.twin_level, target.cached)
            with tqdm(disable=True) as progress:
                self._judge(worker, slot, own, evidence, progress)
            results += [self._conclude(check, slot, found, observed) for (check, _), found in evidence.items()]
        return results

    def cases(self, check: str) -> Iterator[Case]:
        """Yield what a check is asked, one case after the other, each with the reference's answer."""
        return self.modules[check].cases(self.reference, self.corpus, self.settings[check])

    def _groups(self, scratch: Path, progress: Any, limit: float = GROUP) -> Iterator[list[Saved]]:
        """All checks' cases in order, a group at a time; a group's files are gone when the next one is asked for."""
        group: list[Saved] = []
        size = 0
        for check in self.modules:
            progress.set_description_str(f"{check}: reference", refresh=False)
            for case in self.cases(check):
                saved = Saved(check, case.name, scratch / f"{len(group)}")
                case.save(saved.directory)
                group.append(saved)
                size += sum(array.nbytes for array in case.arrays.values())
                if size >= limit:
                    yield group
                    _remove(group)
                    group, size = [], 0
                    progress.set_description_str(f"{check}: reference", refresh=False)
        yield group

    def _judge(
        self,
        worker: Worker,
        slot: Slot,
        group: Sequence[Saved],
        evidence: Mapping[tuple[str, Slot], Evidence],
        progress: Any,
    ) -> None:
        """Let one candidate judge a group; a check that has failed on it is not run on further cases."""
        target, level = slot
        for case in group:
            own = evidence.get((case.check, slot))
            if own is None or own.failure is not None or own.not_run is not None:
                continue
            text = f"{target.variant} {level}: {case.check}: {case.name}"
            progress.set_description_str(text, refresh=False)
            try:
                own.partials.append(worker.judge(case.check, case.directory))
            except NotApplicable as reason:
                own.not_run = str(reason)
            except CandidateError as error:
                own.failure = f"{case.name}: {error}"
            progress.update()

    def _conclude(self, check: str, slot: Slot, evidence: Evidence, known: dict[str, float]) -> Result:
        """Measures held to their bounds; `known` holds this candidate's measures so far and gains the new ones."""
        (target, level), module = slot, self.modules[check]
        failure = evidence.failure
        if evidence.not_run is not None:
            return Result(target.variant, check, "any", (), not_run=evidence.not_run)
        missing = [need for need in module.NEEDS if not any(key.startswith(f"{need}.") for key in known)]
        if failure is None and missing:
            failure = f"needs the measures of {', '.join(missing)}, which failed"
        if failure is None and not evidence.partials:
            failure = "nothing was compared"
        level = level if module.PER_LEVEL else "any"
        if failure is not None:
            return Result(target.variant, check, level, (), failure)
        judged = self._judged(check, target.variant, evidence.partials, known)
        for entry in judged:
            # What is out of bounds excuses nothing: later checks see at most the bound.
            bound = entry.bound if entry.bound is not None and entry.upper else math.inf
            name, value = f"{check}.{entry.measure.name}", min(entry.measure.value, bound)
            known[name] = max(value, known.get(name, value))
        return Result(target.variant, check, level, judged, series=self._series(check, evidence.partials, known))

    def _judged(
        self, check: str, variant: str, partials: Sequence[Partial], known: Mapping[str, float]
    ) -> tuple[Judged, ...]:
        measures = self.modules[check].summarize(partials, known, self.reference)
        return tuple(judge(self.recipe, check, variant, measure) for measure in measures)

    def _series(self, check: str, partials: Sequence[Partial], known: Mapping[str, float]) -> Mapping[str, Any]:
        module = self.modules[check]
        return module.series(partials, known, self.reference) if hasattr(module, "series") else {}


def interval() -> float:
    """Seconds between two updates of a progress bar: in a log, one line every quarter of a minute says enough."""
    return 0.2 if sys.stderr.isatty() else 15


def _remove(group: Sequence[Saved]) -> None:
    for case in group:
        shutil.rmtree(case.directory)
