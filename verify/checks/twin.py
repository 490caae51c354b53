"""twin: beside the variant that this recipe makes from the reference, the same inputs must give the same results.

Against the reference a quantized file may err by its quantization, and a fault smaller than that hides in it. Against
the built variant only rounding may differ. Products that round their activations to int8 turn a difference in the last
bit into one that is half of the quantization's: such files are run a second time without that rounding. A built variant
is its own twin: its digest has already said that it is what the recipe made. So this check runs on foreign files, where
such a variant lies in the build directory, and on a variant's graph in place, whose twin is the variant's other graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from verify.candidate.session import Candidate, Output
from verify.candidate.subgraph import Cuts
from verify.check import Array, Case, Explaining, Measure, NotApplicable, Partial, Prompting, largest
from verify.reference import padding_cases
from verify.reference.corpus import Batch
from verify.scoring.module_probes import SMALL, answers, modules, questions
from verify.settings import require_lengths

if TYPE_CHECKING:  # torch takes seconds to load
    from verify.reference.model import Reference

NEEDS: tuple[str, ...] = ()
PER_LEVEL = True
TOLERATED = {
    "logits_max_abs": "max",
    "logits_rms": "max",
    "present_max_abs": "max",
    "float_max_abs": "max",
    "modules_error": "max",
}
JUDGES = "twin"
PROMPTING: Prompting | None = None
SEEDED = False
BRIEF: Mapping[str, Any] = {}
EXPLAINING: Explaining | None = None


@dataclass(frozen=True)
class Settings:
    """Row lengths of the left-padded batch, and how many tokens are decoded after it and up to the context's end."""

    batch: tuple[int, ...] = (9, 3, 14)
    steps: int = 4  # tokens decoded one by one after the batch
    tail: int = 2  # tokens decoded one by one up to the end of the context

    def check(self, where: str, context: int) -> None:
        """RecipeError for rows or pieces that do not fit the context."""
        require_lengths(self.batch, f"{where}: batch", context)
        require_lengths((self.steps,), f"{where}: steps", context - max(self.batch))
        require_lengths((self.tail,), f"{where}: tail", context - 1)
        require_lengths((padding_cases.LEAST,), f"{where}: conversation", context)


def cases(reference: Reference, corpus: Any, settings: Settings) -> Iterator[Case]:
    """Batches with decoding, irregular inputs, single tokens, a whole context; and all modules, asked alone."""
    context, pad = reference.context, reference.end or 0
    longest = max(settings.batch) + settings.steps
    rows = corpus.batch(tuple(length + settings.steps for length in settings.batch), 400, pad)
    plans = [[longest - settings.steps, *[1] * settings.steps], [longest], [1] * longest]
    yield _case("left-padded batch", rows, plans)
    odd = padding_cases.batch(reference, corpus)
    yield _case("irregular batch", odd, [[odd.ids.shape[1]]])
    talk, turns = padding_cases.conversation(reference, corpus)
    yield _case("conversation in a batch", talk, [turns])
    full = corpus.batch((context,), 410, pad)
    most = context * 5 // 8
    plans = [[context - settings.tail, *[1] * settings.tail], [most, context - most]]
    yield _case("full context", full, plans)
    few = corpus.batch((settings.steps,), 420, pad)
    yield _case("from nothing", few, [[1] * settings.steps])
    yield questions(reference, "modules")


def judge(candidate: Candidate, case: Case) -> Partial:
    """Differences between the two files; NotApplicable where there is no twin."""
    if candidate.twin is None:
        raise NotApplicable("no variant of this recipe is built to compare with")
    if "modules" in case.facts:
        return _modules(candidate, candidate.twin, case)
    result = _compare(candidate, candidate.twin, case)
    ours, theirs = candidate.without_rounding_of_twin, candidate.twin.without_rounding
    if theirs is not None:
        result["float_max_abs"] = _compare(ours or candidate, theirs, case)["max_abs"]
    return result


def summarize(partials: list[Partial], observed: Any, reference: Reference) -> list[Measure]:
    """Largest and root mean square difference of logits, largest of the cache, largest of the modules' answers."""
    runs = [partial for partial in partials if "max_abs" in partial]
    (asked,) = (partial for partial in partials if "modules" in partial)
    worst = max(runs, key=lambda partial: partial["max_abs"])
    compared = sum(partial["compared"] for partial in runs)
    rms = float(np.sqrt(sum(partial["square"] for partial in runs) / max(compared, 1)))
    measures = [
        Measure("logits_max_abs", worst["max_abs"], compared, unit="logit", detail=f"largest in {worst['case']}"),
        Measure("logits_rms", rms, compared, unit="logit"),
        Measure("present_max_abs", max(partial["present"] for partial in runs), compared),
    ]
    plain = [partial["float_max_abs"] for partial in runs if "float_max_abs" in partial]
    if plain:
        measures.append(Measure("float_max_abs", max(plain), compared, unit="logit"))
    if asked["modules"]:
        module = max(asked["modules"], key=lambda name: asked["modules"][name])
        value = asked["modules"][module]
        measures.append(Measure("modules_error", value, len(asked["modules"]), detail=f"largest in {module}"))
    return measures


def _case(name: str, batch: Batch, plans: list[list[int]]) -> Case:
    return Case(name, {"ids": batch.ids, "mask": batch.mask, "positions": batch.positions}, {"plans": plans})


def _compare(candidate: Candidate, twin: Candidate, case: Case) -> Partial:
    """Run every plan of a case through both, each with its own cache."""
    ids, mask, positions = (np.asarray(case.arrays[name]) for name in ("ids", "mask", "positions"))
    result: Partial = {"max_abs": 0.0, "square": 0.0, "present": 0.0, "compared": 0, "case": case.name}
    for plan in case.facts["plans"]:
        at, ours, theirs = 0, None, None
        for size in plan:
            end = at + size
            feed = (ids[:, at:end], mask[:, :end], positions[:, at:end])
            ours = candidate.forward(*feed, None if ours is None else ours.cache)
            theirs = twin.forward(*feed, None if theirs is None else theirs.cache)
            _add(result, ours, theirs, mask[:, at:end] == 1, mask[:, :end] == 1)
            at = end
    return result


def _add(result: Partial, ours: Output, theirs: Output, real: Array, slots: Array) -> None:
    """Add the differences of one step; `real` marks the tokens of this step, `slots` those of the cache."""
    result["max_abs"] = max(result["max_abs"], largest(ours.logits[real], theirs.logits[real]))
    difference = ours.logits[real] - theirs.logits[real]
    result["square"] += float(np.square(difference, dtype=np.float64).sum())
    result["compared"] += int(difference.size)
    for name, wanted in theirs.cache.items():
        found = ours.cache[name].transpose(0, 2, 1, 3)[slots]
        result["present"] = max(result["present"], largest(found, wanted.transpose(0, 2, 1, 3)[slots]))


def _modules(candidate: Candidate, twin: Candidate, case: Case) -> Partial:
    """Largest relative difference of the answers of every module that both graphs name."""
    ours, theirs = Cuts(candidate), Cuts(twin)
    errors = {}
    for module in modules(case):
        found, wanted = (
            cuts.find(module.name, module.value, lookup=module.kind == "lookup") for cuts in (ours, theirs)
        )
        if found is not None and wanted is not None and found.content == wanted.content:
            errors[module.name] = 0.0
        elif found is not None and wanted is not None:
            pairs = zip(answers(module, found, case), answers(module, wanted, case), strict=True)
            errors[module.name] = max(_relative(a, b) for a, b in pairs)
    return {"modules": errors}


def _relative(found: Array, wanted: Array) -> float:
    """Largest difference relative to the largest answer of its column, or of its row where that is larger."""
    size = np.maximum(np.abs(wanted).max(axis=-2, keepdims=True), np.abs(wanted).max(axis=-1, keepdims=True))
    value = float(np.max(np.abs(found - wanted) / np.maximum(size, SMALL)))
    return value if np.isfinite(value) else float("inf")
