"""Say which runtimes a recipe asks for, what they lack on this machine, and which questions it leaves out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pipeline.command import say
from pipeline.errors import RecipeError
from pipeline.recipe.recipe import Recipe
from pipeline.recipe.runtimes import Runtimes
from pipeline.typed import build, did_you_mean
from pipeline.variants import is_in_place
from verify.interop.figures import FIGURES
from verify.interop.lengths import name_of
from verify.interop.questions import Questions
from verify.interop.runtime import Missing, Runtime, load
from verify.run_checks import Target

NOT_THIS_TIME = "left out by --no-runtimes"
NO_FILES = "no tokenizer or config lies beside the candidate, so no runtime loads it"


@dataclass(frozen=True)
class NotRun:
    """State what was not run, why, and whether the recipe gives no pass without it.

    `part`: it ran, and the recipe leaves out a part of what others are asked.
    """

    what: str
    reason: str
    required: bool = False
    part: bool = False


@dataclass(frozen=True)
class Planned:
    """A runtime of the recipe: its module, its settings, and what it lacks on this machine."""

    name: str
    module: Runtime
    settings: Any
    missing: Missing | None
    required: Callable[
        [str | None], bool
    ]  # of a configuration (None: of the runtime as a whole): whether the recipe requires it

    def asked(self, targets: Sequence[Target]) -> list[Target]:
        """Return the files that it is asked about: all, or those whose cache is returned grown."""
        return [t for t in targets if self.module.IN_PLACE or not is_in_place(t.variant)]


def plan(recipe: Recipe, variants: Sequence[str], *, bounded: bool = True) -> tuple[Planned, ...]:
    """The recipe's runtimes, settings read and checked; RecipeError, before any work, also for a missing tolerance.

    `bounded` False lets tolerances be missing: the runtimes are left out, to find some first.
    """
    table = recipe.verify.runtimes
    runtimes = []
    for name in table.run:
        module, where = load(name), f"{recipe.path}: verify.runtimes.{name}"
        settings = build(module.Settings, table.settings.get(name, {}), where=where)
        settings.check(where)
        _require_configurations(table.require, name, module, settings, f"{recipe.path}: verify.runtimes.require")
        fewer = f"{recipe.path}: verify.runtimes.fewer"
        _require_beginnings(table, name, {*_configurations(module), *_configurations(module, settings)}, fewer)
        figures = [figure for part in module.PARTS for figure in FIGURES[part]] if bounded else []
        for check, figure in figures:
            for variant in variants:
                recipe.limit(check, figure, variant)
        _refuse_nothing(table, name, _configurations(module, settings), variants, fewer)
        runtimes.append(Planned(name, module, settings, module.missing(settings), partial(table.requires, name)))
    return tuple(runtimes)


def _require_configurations(required: Sequence[str], name: str, module: Runtime, settings: Any, where: str) -> None:
    """RecipeError for a required configuration that the runtime, by its settings, does not have."""
    known = _configurations(module, settings)
    for entry in required:
        runtime, _, configuration = entry.partition(", ")
        if runtime == name and configuration and configuration not in known:
            raise RecipeError(f"no configuration {entry!r}", where=where, hint=did_you_mean(configuration, known))


def _require_beginnings(table: Runtimes, name: str, known: Collection[str], where: str) -> None:
    """RecipeError for fewer questions of a configuration that a runtime does not have."""
    for entry in table.fewer:
        for beginning in entry.configurations if entry.runtime == name else ():
            if not any(configuration.startswith(beginning) for configuration in known):
                what = f"{name} has no configuration whose name begins with {beginning!r}"
                raise RecipeError(what, where=where, hint=did_you_mean(beginning, known))


def _configurations(module: Runtime, settings: Any = None) -> list[str]:
    """Return names of a runtime's configurations, without settings all usual ones; "any" of one that has no several."""
    if not (hasattr(module, "configurations") and hasattr(module, "EVERY")):
        return ["any"]
    return list(module.configurations(module.EVERY if settings is None else settings))


def _refuse_nothing(table: Runtimes, name: str, places: Sequence[str], variants: Sequence[str], where: str) -> None:
    """RecipeError where all entries together leave a runtime with nothing to answer about a file."""
    for variant in variants:
        if all(table.extent(name, variant, place).nothing for place in places):
            hint = "let longest or texts be 1 or more for one of its configurations, or take the runtime out of run"
            raise RecipeError(f"{name} is asked nothing about {variant}", where=where, hint=hint)


def versions(runtimes: Sequence[Planned]) -> dict[str, str]:
    """Return what each runtime is on this machine, for the report's environment."""
    return {
        runtime.name: runtime.module.version(runtime.settings) if runtime.missing is None else "not installed"
        for runtime in runtimes
    }


def left_out(runtimes: Sequence[Planned], reason: str) -> list[NotRun]:
    """All of the runtimes as not run, none of them required: the report is incomplete, and says so."""
    return [NotRun(runtime.name, reason) for runtime in runtimes]


def not_run(
    runtimes: Sequence[Planned], table: Runtimes, targets: Sequence[Target], questions: Questions
) -> Iterator[NotRun]:
    """Yield what is not run or not asked, and why: runtimes that are missing first."""
    ready = [runtime for runtime in runtimes if runtime.missing is None]
    yield from (_missing(runtime, lacks) for runtime in runtimes if (lacks := runtime.missing) is not None)
    for runtime in ready:
        yield from (*_absent(runtime), *_unsupported(runtime, runtime.asked(targets)))
    for runtime in ready:
        yield from _fewer(runtime, table, runtime.asked(targets), questions)


def _missing(runtime: Planned, lacks: Missing, configuration: str | None = None) -> NotRun:
    """A runtime, or one configuration of it, that is not installed, said loudly."""
    what = ", ".join(filter(None, (runtime.name, configuration)))
    say(f"{what}: NOT RUN: {lacks.reason}")
    return NotRun(what, lacks.reason, runtime.required(configuration))


def _absent(runtime: Planned) -> Iterator[NotRun]:
    lacking = runtime.module.absent(runtime.settings) if hasattr(runtime.module, "absent") else {}
    for configuration, lacks in lacking.items():
        yield _missing(runtime, lacks, configuration)


def _unsupported(runtime: Planned, targets: Sequence[Target]) -> Iterator[NotRun]:
    for target in targets:
        for configuration, reason in runtime.module.unsupported(target.path, runtime.settings).items():
            what = f"{runtime.name}, {configuration}: {target.variant}"
            required = configuration == "any" and runtime.required(None)
            yield NotRun(what, f"not supported by this runtime: {reason}", required)


def _fewer(runtime: Planned, table: Runtimes, targets: Sequence[Target], questions: Questions) -> Iterator[NotRun]:
    """Configurations, prompts and texts that the recipe leaves out of what a runtime is asked."""
    lengths, texts = questions.lengths, len(questions.groups)
    for place in _configurations(runtime.module, runtime.settings):
        for target in targets:
            if table.extent(runtime.name, target.variant, place).nothing:
                reasons = dict.fromkeys(e.reason for e in table.concerning(runtime.name, target.variant, place))
                yield NotRun(f"{runtime.name}, {place}: {target.variant}", "; ".join(reasons))
    for entry in table.fewer:
        if entry.runtime != runtime.name:
            continue
        variants = [target.variant for target in targets if not entry.variants or target.variant in entry.variants]
        asked = lengths.of(entry.extent)
        left = [name_of(rows) for rows in lengths.prompts if rows not in asked]
        less = [f"prompts of {', '.join(left)} tokens"] if left else []
        less += [f"{texts - entry.texts} of {texts} texts"] if entry.texts < texts else []
        if variants and less and not entry.extent.nothing:
            where = "; ".join((runtime.name, *entry.configurations))
            to = f" to {', '.join(variants)}" if entry.variants else ""
            yield NotRun(f"{where}: {'; '.join(less)}{to}", entry.reason, part=True)
