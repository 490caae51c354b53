"""Every runtime of the recipe on every candidate: assembled as the Hub would hold them, asked, and judged."""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from tqdm import tqdm

from artifact.command import say
from artifact.recipe import Recipe
from artifact.signature import model_file
from artifact.typed import build
from verify.agreement import FIGURES, Judgement
from verify.check import Measure
from verify.checks.tokenizer import beside
from verify.corpus import Corpus
from verify.examine import Target
from verify.questions import BATCH, ask_reference
from verify.runtime import Answers, Bounds, Missing, RuntimeFailure, Task, load
from verify.settings import require_lengths
from verify.verdict import Judged, Result, judge

SHARES = ("greedy_near_ties", "sampling_near_ties")  # of steps; the recipe's bound is for a larger sample than this one
NOT_THIS_TIME = "left out by --no-runtimes"
NO_FILES = "no tokenizer or config lies beside the candidate, so no runtime loads it"


@dataclass(frozen=True)
class NotRun:
    """What was not run, why, and whether the recipe gives no pass without it."""

    what: str
    reason: str
    required: bool = False


@dataclass(frozen=True)
class Runtime:
    """A runtime of the recipe: its module, its settings, and what it lacks on this machine."""

    name: str
    module: ModuleType
    settings: Any
    missing: Missing | None
    required: bool


@dataclass
class Outcome:
    """Results by runtime, and what was not run."""

    results: list[Result] = field(default_factory=list)
    not_run: list[NotRun] = field(default_factory=list)


def plan(recipe: Recipe, variants: Sequence[str]) -> tuple[Runtime, ...]:
    """The recipe's runtimes, settings read and checked; RecipeError, before any work, also for a missing tolerance."""
    table = recipe.verify.runtimes
    runtimes = []
    for name in table.run:
        module, where = load(name), f"{recipe.path}: verify.runtimes.{name}"
        settings = build(module.Settings, table.settings.get(name, {}), where=where)
        settings.check(where)
        for part in module.PARTS:
            for check, figure in FIGURES[part]:
                for variant in variants:
                    recipe.limit(check, figure, variant)
        runtimes.append(Runtime(name, module, settings, module.missing(settings), name in table.require))
    return tuple(runtimes)


def versions(runtimes: Sequence[Runtime]) -> dict[str, str]:
    """What each runtime is on this machine, for the report's environment."""
    return {
        runtime.name: runtime.module.version(runtime.settings) if runtime.missing is None else "not installed"
        for runtime in runtimes
    }


def left_out(runtimes: Sequence[Runtime], reason: str) -> list[NotRun]:
    """All of the runtimes as not run, none of them required: the report is incomplete, and says so."""
    return [NotRun(runtime.name, reason) for runtime in runtimes]


def examine(
    recipe: Recipe, runtimes: Sequence[Runtime], reference: Any, corpus: Corpus, targets: Sequence[Target]
) -> Outcome:
    """Ask every installed runtime about every target; what is not installed is said loudly and counts as not passed.

    Raises RecipeError, before any work, for texts that do not fit the model's context.
    """
    table, outcome = recipe.verify.runtimes, Outcome()
    if not runtimes:
        return outcome
    longest = max(*table.prompts, *table.batch, *BATCH) + table.new_tokens
    require_lengths((longest,), f"{recipe.path}: verify.runtimes: prompts and new_tokens", reference.dimensions.context)
    questions = ask_reference(reference, corpus, table)
    for runtime in runtimes:
        if runtime.missing is not None:
            reason = f"{runtime.missing.what} is not installed; to install it: {runtime.missing.command}"
            say(f"{runtime.name}: NOT RUN: {reason}")
            outcome.not_run.append(NotRun(runtime.name, reason, runtime.required))
            continue
        for target in targets:
            for configuration, reason in runtime.module.unsupported(target.path, runtime.settings).items():
                what = f"{runtime.name}, {configuration}: {target.variant}"
                outcome.not_run.append(NotRun(what, f"not supported by this runtime: {reason}"))
        for target, answers in _answers(runtime, targets, questions.asked(), Bounds(table.timeout_s, table.memory_gb)):
            error = recipe.limit("logits", "max_abs", target.variant).bound
            judgement = Judgement(questions, reference, error, runtime.module.UNREADABLE)
            outcome.results += _judged(recipe, runtime, target, answers, judgement)
    return outcome


def _answers(
    runtime: Runtime, targets: Sequence[Target], asked: Mapping[str, Any], bounds: Bounds
) -> Iterator[tuple[Target, Answers | RuntimeFailure]]:
    quiet = 0.2 if sys.stderr.isatty() else 15
    with tempfile.TemporaryDirectory() as scratch, runtime.module.running(runtime.settings, bounds) as ask:
        repository = assemble(targets, Path(scratch) / "model")
        for target in tqdm(targets, desc=runtime.name, unit=" variants", dynamic_ncols=True, mininterval=quiet):
            try:
                yield target, ask(Task(repository, target.variant, asked))
            except RuntimeFailure as failure:
                yield target, failure


def assemble(targets: Sequence[Target], directory: Path) -> Path:
    """A directory as the Hub would hold these files: links, with what lies beside the first target."""
    (directory / "onnx").mkdir(parents=True)
    for target in targets:
        (directory / model_file(target.variant)).symlink_to(target.path.resolve())
    home = beside(targets[0].path) if targets else None
    for path in sorted(home.iterdir()) if home is not None else ():
        if path.is_file() and path.suffix != ".onnx":
            (directory / path.name).symlink_to(path)
    return directory


def _judged(
    recipe: Recipe, runtime: Runtime, target: Target, answers: Answers | RuntimeFailure, judgement: Judgement
) -> list[Result]:
    """A result for each configuration and check, or one failure that says why there are none."""
    variant, name = target.variant, runtime.name
    if isinstance(answers, RuntimeFailure):
        return [Result(variant, "generation", "any", (), str(answers), runtime=name)]
    results = []
    for configuration, parts in answers.items():
        found: dict[str, list[Measure]] = {}
        try:
            for part in runtime.module.PARTS:
                for check, measures in judgement.judge(part, parts[part]).items():
                    found.setdefault(check, []).extend(measures)
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            reason = f"its answer is malformed: {type(error).__name__}: {error}"
            results.append(Result(variant, "generation", configuration, (), reason, runtime=name))
            continue
        for check, measures in found.items():
            judged = tuple(_held(recipe, check, variant, measure) for measure in measures)
            results.append(Result(variant, check, configuration, judged, runtime=name))
    return results


def _held(recipe: Recipe, check: str, variant: str, measure: Measure) -> Judged:
    """A measure held to the recipe's tolerance; a share of steps also has three standard errors of its sample."""
    judged = judge(recipe, check, variant, measure)
    if measure.name not in SHARES or judged.bound is None or not measure.compared:
        return judged
    bound = judged.bound + 3 * math.sqrt(judged.bound * (1 - judged.bound) / measure.compared)
    shown = replace(measure, detail=f"{measure.detail}; allowed: the recipe's and three standard errors of the sample")
    return replace(judged, measure=shown, bound=bound, passed=math.isfinite(measure.value) and measure.value <= bound)
