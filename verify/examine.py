"""Run every check on every candidate in one pass: each case is computed once by the reference, then judged by all."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from tqdm import tqdm

from artifact.errors import RecipeError
from artifact.recipe import Recipe
from artifact.typed import build
from verify.check import Partial, load
from verify.corpus import Corpus
from verify.verdict import Result, judge
from verify.worker import CandidateError, Worker


@dataclass(frozen=True)
class Target:
    """An ONNX file to judge, by the tolerances of a variant."""

    variant: str
    path: Path


Slot = tuple[Target, str]  # a candidate at an optimization level


def plan(recipe: Recipe, checks: Sequence[str]) -> dict[str, ModuleType]:
    """The checks' modules, each after those it needs; RecipeError when one needs a check that is not run."""
    modules: dict[str, ModuleType] = {}
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


def settings_of(recipe: Recipe, modules: Mapping[str, ModuleType]) -> dict[str, Any]:
    """Each check's settings from the recipe; RecipeError for a key or value that the check does not know."""
    return {
        name: build(module.Settings, recipe.verify.settings.get(name, {}), where=f"{recipe.path}: verify.{name}")
        for name, module in modules.items()
    }


@dataclass
class Evidence:
    """What one check gathered on one candidate: a partial result for every case, or why it stopped."""

    partials: list[Partial] = field(default_factory=list)
    failure: str | None = None


@dataclass(frozen=True)
class Examination:
    """Everything the candidates are judged with. `run` may be called once: cases draw on the reference's state."""

    recipe: Recipe
    reference: Any
    corpus: Corpus
    modules: Mapping[str, ModuleType]
    settings: Mapping[str, Any]

    def run(self, targets: Sequence[Target]) -> list[Result]:
        """Results of all checks for all targets at all levels. Cases live in a temporary directory, one at a time."""
        verify = self.recipe.verify
        results: list[Result] = []
        observed: dict[Slot, dict[str, float]] = {}
        with contextlib.ExitStack() as stack:
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="verify-")))
            # In a log (no terminal) one line every quarter of a minute says enough.
            interval = 0.2 if sys.stderr.isatty() else 15
            progress = stack.enter_context(tqdm(unit=" runs", dynamic_ncols=True, desc="verify", mininterval=interval))
            workers = {
                (target, level): stack.enter_context(
                    Worker(target.path, level, timeout_s=verify.timeout_s, memory_gb=verify.memory_gb)
                )
                for target in targets
                for level in verify.levels
            }
            for check, module in self.modules.items():
                levels = verify.levels if module.PER_LEVEL else verify.levels[:1]
                slots = {slot: worker for slot, worker in workers.items() if slot[1] in levels}
                evidence = self._gather(check, slots, scratch, progress)
                results += [
                    self._conclude(check, slot, evidence[slot], observed.setdefault(slot, {})) for slot in slots
                ]
        return results

    def _gather(self, check: str, slots: Mapping[Slot, Worker], scratch: Path, progress: Any) -> dict[Slot, Evidence]:
        """Run one check's cases; a candidate that failed is not run on further cases."""
        evidence = {slot: Evidence() for slot in slots}
        progress.set_description_str(f"{check}: reference", refresh=False)
        for case in self.modules[check].cases(self.reference, self.corpus, self.settings[check]):
            with tempfile.TemporaryDirectory(dir=scratch) as home:
                directory = Path(home) / "case"
                case.save(directory)
                for (target, level), worker in slots.items():
                    own = evidence[target, level]
                    if own.failure is not None:
                        continue
                    text = f"{check}: {case.name}: {target.variant} {level}"
                    progress.set_description_str(text, refresh=False)
                    try:
                        own.partials.append(worker.judge(check, directory))
                    except CandidateError as error:
                        own.failure = f"{case.name}: {error}"
                    progress.update()
            progress.set_description_str(f"{check}: reference", refresh=False)
        return evidence

    def _conclude(self, check: str, slot: Slot, evidence: Evidence, known: dict[str, float]) -> Result:
        """Measures held to their bounds; `known` holds this candidate's measures so far and gains the new ones."""
        (target, level), module = slot, self.modules[check]
        failure = evidence.failure
        missing = [need for need in module.NEEDS if not any(key.startswith(f"{need}.") for key in known)]
        if failure is None and missing:
            failure = f"needs the measures of {', '.join(missing)}, which failed"
        if failure is None and not evidence.partials:
            failure = "nothing was compared"
        level = level if module.PER_LEVEL else "any"
        if failure is not None:
            return Result(target.variant, check, level, (), failure)
        measures = module.summarize(evidence.partials, known, self.reference)
        known.update({f"{check}.{measure.name}": measure.value for measure in measures})
        judged = tuple(judge(self.recipe, check, target.variant, measure) for measure in measures)
        return Result(target.variant, check, level, judged)
