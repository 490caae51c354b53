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

from model import transformersjs_config
from pipeline.canonical import read_json, write_json
from pipeline.recipe.recipe import Recipe
from pipeline.recipe.runtimes import Extent, Runtimes
from pipeline.variants import is_in_place, model_file
from verify.check import Measure
from verify.checks.tokenizer import beside
from verify.interop import unrounded
from verify.interop.comparator import Judgement
from verify.interop.planned import NotRun, Planned, not_run
from verify.interop.questions import BATCH, Questions, ask_reference
from verify.interop.runtime import Answered, Answers, Ask, Bounds, RuntimeFailure, Task
from verify.interop.unrounded import Unrounded
from verify.reference.corpus import Corpus
from verify.run_checks import AT_A_TIME, Target, interval
from verify.sandbox.launch import end_children
from verify.settings import require_lengths
from verify.verdict import Judged, Result, judge

if TYPE_CHECKING:  # torch takes seconds to load
    from verify.reference.model import Reference

SHARES = ("greedy_near_ties", "sampling_near_ties")  # of steps; the recipe's bound is for a larger sample than this one
PLACES = {"lengths": "long prompts", unrounded.PART: "without roundings"}  # parts with figures of their own
MALFORMED = (ArithmeticError, LookupError, TypeError, ValueError)  # what reading an answer raises that is none


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
    require_lengths((longest,), f"{recipe.path}: verify.runtimes: prompts and new_tokens", reference.context)
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
    count = sum(len(runtime.asked(targets)) for runtime in ready)
    nested = threading.current_thread() is not threading.main_thread()  # verify.faults' threads: it shows its own
    with (
        tempfile.TemporaryDirectory() as scratch,
        tqdm(total=count, unit=" variants", dynamic_ncols=True, mininterval=interval(), disable=nested) as progress,
    ):
        inquiry = _Inquiry(targets, questions, table, progress, Path(scratch))
        for runtime, found in inquiry.answers(ready):
            for target, reply in found:
                error = recipe.limit("logits", "max_abs", target.variant).bound
                rows = getattr(runtime.settings, "rows", None)
                judgement = Judgement(questions, reference, error, runtime.module.UNREADABLE, rows)
                outcome.results += _judged(recipe, runtime, target, reply, judgement)
    return outcome


@dataclass(frozen=True)
class _Reply:
    """State what a runtime answered about one candidate, and about it without its roundings where it has that part."""

    answers: Answers | RuntimeFailure
    # Without its roundings: onnxruntime's answers, and the runtime's (`answers`, where the candidate rounds nothing).
    plain: tuple[Unrounded, Answers | RuntimeFailure] | None = None


@dataclass(frozen=True)
class _Inquiry:
    """The same questions to several runtimes, AT_A_TIME of them at a time."""

    targets: Sequence[Target]
    questions: Questions
    table: Runtimes
    progress: Any
    scratch: Path
    stopped: threading.Event = field(default_factory=threading.Event)

    def answers(self, runtimes: Sequence[Planned]) -> Iterator[tuple[Planned, list[tuple[Target, _Reply]]]]:
        """The runtimes in order, each with its answers about every target."""
        plain = self._unrounded() if any(unrounded.PART in runtime.module.PARTS for runtime in runtimes) else {}
        with ThreadPoolExecutor(AT_A_TIME) as threads:
            try:
                slow_first = sorted(runtimes, key=lambda runtime: not runtime.module.SLOW)
                found = {runtime.name: threads.submit(self._of, runtime, plain) for runtime in slow_first}
                for runtime in runtimes:
                    yield runtime, found[runtime.name].result()
            except BaseException:
                self.stopped.set()
                threads.shutdown(wait=False, cancel_futures=True)
                end_children()  # nobody will read what they are at, and it may take `timeout_s` yet
                raise

    @property
    def _bounds(self) -> Bounds:
        return Bounds(self.table.timeout_s, self.table.memory_gb)

    def _unrounded(self) -> Mapping[str, Unrounded]:
        self.progress.set_description_str("without roundings: onnxruntime", refresh=False)
        # Apart: a graph in place reads the numbers of its variant's file as that is, not of the copy without roundings.
        second = [target for target in self.targets if is_in_place(target.variant)]
        first = [target for target in self.targets if not is_in_place(target.variant)]
        found = dict[str, Unrounded]()
        for name, targets in {"unrounded": first, "unrounded-in-place": second}.items():
            repository = assemble(targets, self.scratch / name)
            found |= unrounded.prepare(targets, repository, self.questions.lengths, self._bounds)
        return found

    def _of(self, runtime: Planned, plain: Mapping[str, Unrounded]) -> list[tuple[Target, _Reply]]:
        asked, found = self.questions.asked(), []
        with tempfile.TemporaryDirectory() as scratch, runtime.module.running(runtime.settings, self._bounds) as ask:
            for target in runtime.asked(self.targets):
                if self.stopped.is_set():
                    break
                repository = assemble(self.targets, Path(scratch) / target.variant / "model", target)
                self.progress.set_description_str(f"{runtime.name}: {target.variant}", refresh=False)
                extent = partial(self.table.extent, runtime.name, target.variant)
                answers = _reply(ask, Task(repository, target.variant, asked, extent))
                if unrounded.PART not in runtime.module.PARTS or isinstance(answers, RuntimeFailure):
                    found.append((target, _Reply(answers)))
                else:
                    own = plain[target.variant]
                    left = Answered.of(answers, extent)
                    rounds = own.repository is not None
                    about = _reply(ask, own.task(target.variant, asked, left)) if rounds and left.any else answers
                    found.append((target, _Reply(answers, (own, about))))
                self.progress.update()
        return found


def _reply(ask: Ask, task: Task) -> Answers | RuntimeFailure:
    try:
        return ask(task)
    except RuntimeFailure as failure:
        return failure


def assemble(targets: Sequence[Target], directory: Path, only: Target | None = None) -> Path:
    """A directory as the Hub would hold these files: links, with what lies beside the first target.

    Its config.json tells of external data whatever the targets' own do. With `only`, of their graphs that one is there
    alone, and what it reads its weights from: a program that loads another than it is asked for, as some do for a dtype
    that they do not know, finds none.
    """
    (directory / "onnx").mkdir(parents=True)
    for target in targets if only is None else (only,):
        graph = directory / model_file(target.variant)
        graph.symlink_to(target.path.resolve())
        for path in target.data:
            _link(path, graph.parent / path.relative_to(target.path.parent))
    home = beside(targets[0].path) if targets else None
    for path in sorted(home.iterdir()) if home is not None else ():
        if path.is_file() and path.suffix != ".onnx":
            (directory / path.name).symlink_to(path)
    configs = [place / transformersjs_config.FILE for target in targets if (place := beside(target.path)) is not None]
    if len(configs) > 1 and any(target.data for target in targets):
        own = directory / transformersjs_config.FILE
        own.unlink()
        write_json(own, transformersjs_config.merged([read_json(path) for path in configs]))
    return directory


def _link(path: Path, place: Path) -> None:
    """Link a data file, which several files of another program may share."""
    place.parent.mkdir(parents=True, exist_ok=True)
    if not place.exists():
        place.symlink_to(path.resolve())


def _judged(recipe: Recipe, runtime: Planned, target: Target, reply: _Reply, judgement: Judgement) -> Iterator[Result]:
    """A result for each configuration and check, or one failure that says why there are none."""
    failed = partial(_failed, runtime.name, target.variant)
    if isinstance(reply.answers, RuntimeFailure):
        yield failed("generation", "any", reply.answers)
        return
    for configuration, parts in reply.answers.items():
        if isinstance(parts, RuntimeFailure):
            yield failed("generation", configuration, parts)
            continue
        extent = recipe.verify.runtimes.extent(runtime.name, target.variant, configuration)
        try:
            found = _found(runtime, parts, replace(judgement, extent=extent), configuration)
        except MALFORMED as error:
            yield failed("generation", configuration, error)
            continue
        for (check, place), measures in found.items():
            judged = tuple(_held(recipe, check, target.variant, measure) for measure in measures)
            yield Result(target.variant, check, place, judged, runtime=runtime.name)
        if reply.plain is not None and extent.longest:
            place = _place(configuration, unrounded.PART)
            try:
                measure = unrounded.measure(*reply.plain, configuration, extent)
            except (RuntimeFailure, *MALFORMED) as error:
                yield failed(unrounded.CHECK, place, error)
                continue
            judged = (_held(recipe, unrounded.CHECK, target.variant, measure),)
            yield Result(target.variant, unrounded.CHECK, place, judged, runtime=runtime.name)


def _failed(runtime: str, variant: str, check: str, place: str, error: Exception) -> Result:
    """Return the failure of a configuration: the runtime's own, or an answer that cannot be read."""
    malformed = f"its answer is malformed: {type(error).__name__}: {error}"
    reason = str(error) if isinstance(error, RuntimeFailure) else malformed
    return Result(variant, check, place, (), reason, runtime=runtime)


def _found(
    runtime: Planned, parts: Mapping[str, Any], judgement: Judgement, configuration: str
) -> dict[tuple[str, str], list[Measure]]:
    """Measures by check and place; raises what a malformed answer raises."""
    found: dict[tuple[str, str], list[Measure]] = {}
    for part in _asked(runtime.module.PARTS, judgement.extent):
        for check, measures in judgement.judge(part, parts[part]).items():
            found.setdefault((check, _place(configuration, part)), []).extend(measures)
    return found


def _asked(parts: Sequence[str], extent: Extent) -> list[str]:
    """Return the parts of the questions that were asked: with no text to continue, the texts were not."""
    return [part for part in parts if part != unrounded.PART and (part != "texts" or extent.texts)]


def _place(configuration: str, part: str) -> str:
    """Return what the report calls the level: long prompts have figures of their own."""
    if part not in PLACES:
        return configuration
    return PLACES[part] if configuration == "any" else f"{configuration}, {PLACES[part]}"


def _held(recipe: Recipe, check: str, variant: str, measure: Measure) -> Judged:
    """A measure held to the recipe's tolerance; a share of steps also has three standard errors of its sample."""
    judged = judge(recipe, check, variant, measure)
    if measure.name not in SHARES or judged.bound is None or not measure.compared:
        return judged
    bound = judged.bound + 3 * math.sqrt(judged.bound * (1 - judged.bound) / measure.compared)
    shown = replace(measure, detail=f"{measure.detail}; allowed: the recipe's and three standard errors of the sample")
    return replace(judged, measure=shown, bound=bound, passed=math.isfinite(measure.value) and measure.value <= bound)
