"""Run every check on every candidate in one pass: each case is computed once by the reference, then judged by all."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from tqdm import tqdm

from artifact.errors import RecipeError
from artifact.recipe import Recipe
from artifact.typed import build
from verify.check import Case, Partial, load
from verify.corpus import Corpus
from verify.verdict import Result, judge
from verify.worker import CandidateFailure, Worker


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
        name: build(
            module.Settings, recipe.verify.settings.get(name, {}), where=f"{recipe.path}: verify.{name}"
        )
        for name, module in modules.items()
    }


def examine(
    recipe: Recipe,
    reference: Any,
    corpus: Corpus,
    targets: Sequence[Target],
    modules: Mapping[str, ModuleType],
    settings: Mapping[str, Any],
) -> list[Result]:
    """Results of all checks for all targets at all levels. Cases live in a temporary directory, one at a time."""
    results: list[Result] = []
    observed: dict[Slot, dict[str, float]] = {}
    bounds = {"timeout_s": recipe.verify.timeout_s, "memory_gb": recipe.verify.memory_gb}
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="verify-")))
        # In a log (no terminal) one line every quarter of a minute says enough.
        interval = 0.2 if sys.stderr.isatty() else 15
        progress = stack.enter_context(tqdm(unit=" runs", dynamic_ncols=True, desc="verify", mininterval=interval))
        workers = {
            (target, level): stack.enter_context(Worker(target.path, level, **bounds))
            for target in targets
            for level in recipe.verify.levels
        }
        for name, module in modules.items():
            levels = recipe.verify.levels if module.PER_LEVEL else recipe.verify.levels[:1]
            slots = {slot: worker for slot, worker in workers.items() if slot[1] in levels}
            cases = module.cases(reference, corpus, settings[name])
            partials, failures = _run(name, cases, slots, scratch, progress)
            for slot in slots:
                results.append(_conclude(recipe, name, module, slot, partials[slot], failures.get(slot), observed, reference))
    return results


def _run(
    check: str, cases: Iterator[Case], slots: Mapping[Slot, Worker], scratch: Path, progress: Any
) -> tuple[dict[Slot, list[Partial]], dict[Slot, str]]:
    """Partial results by candidate, and why a candidate has failed; one that failed is not run on further cases."""
    partials: dict[Slot, list[Partial]] = {slot: [] for slot in slots}
    failures: dict[Slot, str] = {}
    progress.set_description_str(f"{check}: reference", refresh=False)
    for case in cases:
        with tempfile.TemporaryDirectory(dir=scratch) as home:
            directory = Path(home) / "case"
            case.save(directory)
            for slot, worker in slots.items():
                if slot in failures:
                    continue
                target, level = slot
                progress.set_description_str(f"{check}: {case.name}: {target.variant} {level}", refresh=False)
                try:
                    partials[slot].append(worker.judge(check, directory))
                except CandidateFailure as error:
                    failures[slot] = f"{case.name}: {error}"
                progress.update()
        progress.set_description_str(f"{check}: reference", refresh=False)
    return partials, failures


def _conclude(
    recipe: Recipe,
    check: str,
    module: ModuleType,
    slot: Slot,
    partials: list[Partial],
    failure: str | None,
    observed: dict[Slot, dict[str, float]],
    reference: Any,
) -> Result:
    target, level = slot
    known = observed.setdefault(slot, {})
    missing = [need for need in module.NEEDS if not any(key.startswith(f"{need}.") for key in known)]
    if failure is None and missing:
        failure = f"needs the measures of {', '.join(missing)}, which failed"
    if failure is None and not partials:
        failure = "nothing was compared"
    level = level if module.PER_LEVEL else "any"
    if failure is not None:
        return Result(target.variant, check, level, (), failure)
    measures = module.summarize(partials, known, reference)
    known.update({f"{check}.{measure.name}": measure.value for measure in measures})
    return Result(
        target.variant, check, level, tuple(judge(recipe, check, target.variant, measure) for measure in measures)
    )
