"""Ask the checks about prompts of the user's own, beside the recipe's text and apart from it.

Apart, so that they can neither hide a failure nor make one: a mean over both would thin out what only one of them
shows, and a larger error on a prompt would excuse a changed choice in the recipe's text. The bounds are the recipe's.
A mean or a share over a few prompts has a statistical error that the recipe's bound makes no room for: it fails where
it is beyond its bound by more than DOUBT such errors, and over fewer than FEWEST elements it is shown, not judged.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

from pipeline.errors import RecipeError
from verify.check import FEWEST, Case, Check, Measure, Partial, Prompt, Prompting
from verify.reference.prompts import PromptFile
from verify.run_checks import Examination
from verify.verdict import Judged, Result, judge

DOUBT = 3  # standard errors of a mean or share


@dataclass(frozen=True)
class OnPrompts(Examination):
    """The same candidates, reference and settings; what is asked are the prompts."""

    prompts: tuple[Prompt, ...] = ()

    @classmethod
    def of(cls, examination: Examination, given: PromptFile) -> Self:
        """The examination of a file of prompts. Raises InputError for prompts that cannot be given to the model."""
        reference = examination.reference
        prompts = given.prompts(reference.tokenizer, reference.dimensions.context)
        own = {field.name: getattr(examination, field.name) for field in fields(Examination)}
        return cls(**{**own, "modules": asked(examination.modules)}, prompts=prompts)

    def cases(self, check: str) -> Iterator[Case]:
        """Yield a case for each prompt."""
        return self._prompting(check).cases(self.reference, self.prompts, self.settings[check])

    def _judged(
        self, check: str, variant: str, partials: Sequence[Partial], known: Mapping[str, float]
    ) -> tuple[Judged, ...]:
        own = self._prompting(check)
        found = own.summarize([*partials], {**known}, self.reference)
        plain = {m.name: judge(self.recipe, check, variant, m) for m in found if m.name in own.figures}
        means = {m.name: self._mean(check, variant, m) for m in found if m.name in own.averages}
        return tuple((plain | means).values())

    def _mean(self, check: str, variant: str, measure: Measure) -> Judged:
        if measure.compared < FEWEST:
            detail = f"shown, not judged: {measure.compared} compared, {FEWEST} are needed"
            return judge(self.recipe, check, variant, replace(measure, judged=False, detail=detail))
        share = math.sqrt(max(measure.value * (1 - measure.value), 0) / measure.compared)
        error = share if measure.error is None else measure.error
        return judge(self.recipe, check, variant, replace(measure, error=error), allowance=DOUBT * error)

    def _series(self, check: str, partials: Sequence[Partial], known: Mapping[str, float]) -> Mapping[str, Any]:
        """The check's own, and its figures for each prompt alone."""
        own = self._prompting(check)
        alone = {}
        for prompt, partial in zip(self.prompts, partials, strict=True):
            measures = own.summarize([partial], {**known}, self.reference)
            alone[prompt.name] = {m.name: m.value for m in measures if m.name in {*own.figures, *own.averages}}
        return {**super()._series(check, partials, known), "by_prompt": alone}

    def _prompting(self, check: str) -> Prompting:
        own = self.modules[check].PROMPTING
        if own is None:
            raise ValueError(f"the check {check} is asked about no prompts")
        return own


def asked(modules: Mapping[str, Check]) -> dict[str, Check]:
    """The checks that are asked about prompts; RecipeError where the recipe has none of them."""
    found = {name: module for name, module in modules.items() if module.PROMPTING is not None}
    if not found:
        hint = "use a recipe with logits, generation or divergence in verify.checks"
        raise RecipeError("no check of the recipe is asked about prompts", where="--prompts", hint=hint)
    return found


def notices(results: Sequence[Result], given: PromptFile) -> list[str]:
    """Say which figures of the prompts are shown only, because they are means or shares over too few elements."""
    few = {
        f"{result.check}.{entry.measure.name}": None
        for result in results
        for entry in result.measures
        if entry.measure.compared < FEWEST and not entry.measure.judged and entry.measure.detail
    }
    text = f"{given.path.name}: too short to hold means and shares to the recipe's bounds, so they are shown only"
    return [f"{text}: {', '.join(few)}"] if few else []
