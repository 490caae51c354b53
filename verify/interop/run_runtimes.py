"""Every runtime of the recipe on every candidate: assembled as the Hub would hold them, asked, and judged."""

from __future__ import annotations

import math
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from pipeline.recipe.recipe import Recipe
from pipeline.recipe.runtimes import Extent, Runtimes
from pipeline.variants import model_file
from verify.check import Measure
from verify.checks.tokenizer import beside
from verify.interop.comparator import Judgement
from verify.interop.planned import NotRun, Planned, not_run
from verify.interop.questions import BATCH, Questions, ask_reference
from verify.interop.runtime import Answers, Bounds, RuntimeFailure, Task
from verify.reference.corpus import Corpus
from verify.run_checks import AT_A_TIME, Target, interval
from verify.sandbox.launch import end_children
from verify.settings import require_lengths
from verify.verdict import Judged, Result, judge

if TYPE_CHECKING:  # torch takes seconds to load
    from verify.reference.model import Reference

SHARES = ("greedy_near_ties", "sampling_near_ties")  # of steps; the recipe's bound is for a larger sample than this one
Reply = Answers | RuntimeFailure


@dataclass
class Outcome:
    """Results by runtime, and what was not run."""

    results: list[Result] = field(default_factory=list)
    not_run: list[NotRun] = field(default_factory=list)


def examine(
    recipe: Recipe, runtimes: Sequence[Planned], reference: Reference, corpus: Corpus, targets: Sequence[Target]
) -> Outcome:
    """Ask every installed runtime about every target; what is not installed is said loudly and counts as not passed.

    Raises RecipeError, before any work, for texts that do not fit the model's context.
    """
    table = recipe.verify.runtimes
    if not runtimes:
        return Outcome()
    longest = max(*table.prompts, *table.batch, *BATCH) + table.new_tokens
    require_lengths((longest,), f"{recipe.path}: verify.runtimes: prompts and new_tokens", reference.dimensions.context)
    questions = ask_reference(reference, corpus, table, f"{recipe.path}: verify.runtimes")
    return ask(recipe, runtimes, questions, reference, targets)


def ask(
    recipe: Recipe,
    runtimes: Sequence[Planned],
    questions: Questions,
    reference: Reference,
    targets: Sequence[Target],
) -> Outcome:
    """Ask what the reference has answered, and hold every answer to the recipe's tolerances."""
    table, outcome = recipe.verify.runtimes, Outcome()
    ready = [runtime for runtime in runtimes if runtime.missing is None]
    outcome.not_run += not_run(runtimes, table, targets, questions)
    count = len(ready) * len(targets)
    nested = threading.current_thread() is not threading.main_thread()  # verify.faults' threads: it shows its own
    with tqdm(total=count, unit=" variants", dynamic_ncols=True, mininterval=interval(), disable=nested) as progress:
        inquiry = _Inquiry(targets, questions.asked(), table, progress)
        for runtime, found in inquiry.answers(ready):
            for target, answers in found:
                error = recipe.limit("logits", "max_abs", target.variant).bound
                rows = getattr(runtime.settings, "rows", None)
                judgement = Judgement(questions, reference, error, runtime.module.UNREADABLE, rows)
                outcome.results += _judged(recipe, runtime, target, answers, judgement)
    return outcome


@dataclass(frozen=True)
class _Inquiry:
    """The same questions to several runtimes, AT_A_TIME of them at a time."""

    targets: Sequence[Target]
    asked: Mapping[str, Any]
    table: Runtimes
    progress: Any
    stopped: threading.Event = field(default_factory=threading.Event)

    def answers(self, runtimes: Sequence[Planned]) -> Iterator[tuple[Planned, list[tuple[Target, Reply]]]]:
        """The runtimes in order, each with its answers about every target."""
        with ThreadPoolExecutor(AT_A_TIME) as threads:
            try:
                yield from zip(runtimes, threads.map(lambda runtime: list(self._of(runtime)), runtimes), strict=True)
            except BaseException:
                self.stopped.set()
                end_children()  # nobody will read what they are at, and it may take `timeout_s` yet
                raise

    def _of(self, runtime: Planned) -> Iterator[tuple[Target, Reply]]:
        bounds = Bounds(self.table.timeout_s, self.table.memory_gb)
        with tempfile.TemporaryDirectory() as scratch, runtime.module.running(runtime.settings, bounds) as ask:
            repository = assemble(self.targets, Path(scratch) / "model")
            for target in self.targets:
                if self.stopped.is_set():
                    return
                self.progress.set_description_str(f"{runtime.name}: {target.variant}", refresh=False)
                extent = partial(self.table.extent, runtime.name, target.variant)
                try:
                    yield target, ask(Task(repository, target.variant, self.asked, extent))
                except RuntimeFailure as failure:
                    yield target, failure
                self.progress.update()


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


def _judged(recipe: Recipe, runtime: Planned, target: Target, answers: Reply, judgement: Judgement) -> list[Result]:
    """A result for each configuration and check, or one failure that says why there are none."""
    variant, name = target.variant, runtime.name
    if isinstance(answers, RuntimeFailure):
        return [Result(variant, "generation", "any", (), str(answers), runtime=name)]
    results = []
    for configuration, parts in answers.items():
        if isinstance(parts, RuntimeFailure):
            results.append(Result(variant, "generation", configuration, (), str(parts), runtime=name))
            continue
        own = replace(judgement, extent=recipe.verify.runtimes.extent(name, variant, configuration))
        found: dict[tuple[str, str], list[Measure]] = {}
        try:
            for part in _asked(runtime.module.PARTS, own.extent):
                for check, measures in own.judge(part, parts[part]).items():
                    found.setdefault((check, _place(configuration, part)), []).extend(measures)
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            reason = f"its answer is malformed: {type(error).__name__}: {error}"
            results.append(Result(variant, "generation", configuration, (), reason, runtime=name))
            continue
        for (check, place), measures in found.items():
            judged = tuple(_held(recipe, check, variant, measure) for measure in measures)
            results.append(Result(variant, check, place, judged, runtime=name))
    return results


def _asked(parts: Sequence[str], extent: Extent) -> list[str]:
    """Return the parts of the questions that were asked: with no text to continue, the texts were not."""
    return [part for part in parts if part != "texts" or extent.texts]


def _place(configuration: str, part: str) -> str:
    """Return what the report calls the level: long prompts have figures of their own."""
    if part != "lengths":
        return configuration
    return "long prompts" if configuration == "any" else f"{configuration}, long prompts"


def _held(recipe: Recipe, check: str, variant: str, measure: Measure) -> Judged:
    """A measure held to the recipe's tolerance; a share of steps also has three standard errors of its sample."""
    judged = judge(recipe, check, variant, measure)
    if measure.name not in SHARES or judged.bound is None or not measure.compared:
        return judged
    bound = judged.bound + 3 * math.sqrt(judged.bound * (1 - judged.bound) / measure.compared)
    shown = replace(measure, detail=f"{measure.detail}; allowed: the recipe's and three standard errors of the sample")
    return replace(judged, measure=shown, bound=bound, passed=math.isfinite(measure.value) and measure.value <= bound)
