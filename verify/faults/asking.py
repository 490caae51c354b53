"""Ask the recipe's runtimes about a planted fault: some show in one program, or on one provider, alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pipeline.errors import RecipeError
from pipeline.recipe.recipe import Recipe
from verify.faults.fault import EVERY, Fault
from verify.interop import planned, run_runtimes
from verify.interop.planned import Planned
from verify.interop.questions import Questions, ask_reference
from verify.reference.corpus import Corpus
from verify.run_checks import Target
from verify.verdict import Result

if TYPE_CHECKING:  # torch takes seconds to load
    from verify.reference.model import Reference

ASKED_IN = "fp32"  # the variant with the tightest bounds: what a runtime computes wrongly shows there first


@dataclass(frozen=True)
class Asking:
    """The runtimes, and the questions with the reference's answers: all lengths of prompts, and few other texts."""

    recipe: Recipe
    runtimes: Mapping[str, Planned]
    questions: Questions
    reference: Reference

    def results(self, runtime: str, target: Target) -> list[Result]:
        """Return what the runtime's answers about one file come to."""
        own = [self.runtimes[runtime]]
        return run_runtimes.ask(self.recipe, own, self.questions, self.reference, [target]).results


def prepare(recipe: Recipe, faults: Sequence[Fault], reference: Reference, corpus: Corpus) -> Asking | None:
    """Draw the questions; None where no fault is asked about.

    Raises RecipeError for a runtime that is not installed: a fault that nobody is asked about would not be caught.
    """
    names = list(dict.fromkeys(name for entry in faults for name in of(entry, recipe)))
    if not names:
        return None
    table = recipe.verify.runtimes
    fewer = replace(table, run=tuple(names), require=(), prompts=(6,), batch=(9, 4), new_tokens=4)
    own = replace(recipe, verify=replace(recipe.verify, runtimes=fewer))
    runtimes = planned.plan(own, recipe.files)
    for runtime in runtimes:
        if runtime.missing is not None:
            hint = f"{runtime.missing.command}; or leave what runtimes are asked about out with --no-runtimes"
            where = f"{recipe.path}: verify.runtimes: {runtime.name}"
            raise RecipeError(f"{runtime.missing.what} is not installed", where=where, hint=hint)
    questions = ask_reference(reference, corpus, fewer, f"{recipe.path}: verify.runtimes")
    return Asking(own, {runtime.name: runtime for runtime in runtimes}, questions, reference)


def of(entry: Fault, recipe: Recipe) -> list[str]:
    """Return the runtimes of the recipe that must catch a fault."""
    return [name for name in recipe.verify.runtimes.run if entry.runtime in (EVERY, name)]


def asked_in(entry: Fault) -> tuple[str, ...]:
    """Return the variants in which runtimes are asked about a fault."""
    return (ASKED_IN,) if entry.runtime == EVERY else entry.variants
