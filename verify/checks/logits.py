"""logits: teacher-forced over text without a cache; every position compared; no row may affect another.

The last positions must be the same when they are asked for alone. Both are asked of the graph in float32, in which no
activation is rounded (verify/candidate/unrounded.py): there only the order of sums can make a difference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import RecipeError
from verify.candidate.input import Input, fed
from verify.candidate.session import Candidate
from verify.check import (
    Array,
    Case,
    Ease,
    Explaining,
    Measure,
    Partial,
    Prompt,
    Prompting,
    largest,
    largest_by_row,
)
from verify.reference import padding_cases
from verify.reference.corpus import Batch, left_padded
from verify.scoring.near_ties import margin, tied
from verify.settings import require_lengths

if TYPE_CHECKING:  # torch takes seconds to load
    from verify.reference.model import Reference

NEEDS: tuple[str, ...] = ()
PER_LEVEL = True
TOLERATED = {"max_abs": "max", "near_ties": "max", "batch_dependence": "max", "on_demand": "max"}
JUDGES = "graph"
SEEDED = True
BRIEF: Mapping[str, Any] = {}
RANGE = "reference_range"  # the largest absolute value of the reference's: what rounding errors scale with
RANKS = (1, 10, 100, 1000, 10000)  # a bucket ends after each of these ranks of the reference's order, and at the last
RANKED = 16  # positions of a case whose errors are told apart by rank: sorting a vocabulary takes milliseconds
BUCKETS = 64  # of positions in the report
LONG = 128  # tokens, from which on only the last logits are asked for alone: every number is one whole pass more


@dataclass(frozen=True)
class Settings:
    """Sequence lengths run alone (the full context is always added), and row lengths of left-padded batches."""

    lengths: tuple[int, ...] = (1, 2, 7, 33)
    batches: tuple[tuple[int, ...], ...] = ((5, 1, 18, 11),)

    def check(self, where: str, context: int) -> None:
        """RecipeError for lengths that no run could satisfy, and for no batch of at least two rows."""
        require_lengths(self.lengths, f"{where}: lengths", context)
        for batch in self.batches or ((),):
            require_lengths(batch, f"{where}: batches", context)
        if max(map(len, self.batches)) < 2:
            hint = "name one batch of two rows: whether rows affect each other could not be measured"
            raise RecipeError("no batch of several rows", where=f"{where}: batches", hint=hint)


def cases(reference: Reference, corpus: Any, settings: Settings) -> Iterator[Case]:
    """A case per length and per batch, and an irregular one: ids, mask, positions, and the reference's logits."""
    context = reference.context
    for length in sorted({*settings.lengths, context}):
        yield case_of(f"length {length}", corpus.batch((length,), 0, 0), reference)
    for place, lengths in enumerate(settings.batches):
        batch = corpus.batch(lengths, 100 * (place + 1), reference.end or 0)
        yield case_of(f"batch {'+'.join(map(str, lengths))}", batch, reference)
    yield case_of("irregular batch", padding_cases.batch(reference, corpus), reference)


def judge(candidate: Candidate, case: Case) -> Partial:
    """Largest error, flips of the top token with the reference's margin there, and dependence between rows."""
    ids, mask, positions, wanted = (case.arrays[name] for name in ("ids", "mask", "positions", "logits"))
    found = candidate.forward(ids, mask, positions).logits
    real = mask == 1
    ours, theirs = found[real], wanted[real]
    plain = candidate.without_rounding or candidate
    asked = len(ids) > 1 or plain.offers_last_logits
    whole = found if plain is candidate or not asked else plain.forward(ids, mask, positions).logits
    return {
        "case": case.name,
        "range": float(max(theirs.max(), -theirs.min())),
        **compare(ours, theirs),
        "at": positions[real],
        "by_rank": _by_rank(ours, theirs, case),
        "ranked": len(case.arrays["ranked"]),
        "dependence": _dependence(plain, whole, case) if len(ids) > 1 else None,
        "on_demand": _on_demand(plain, whole, case) if plain.offers_last_logits else None,
    }


def compare(found: Array, wanted: Array) -> dict[str, Any]:
    """Compare logits float32 [positions, vocabulary] of candidate and reference, a few rows at a time."""
    margins: list[float] = []
    errors = []
    for start in range(0, len(wanted), 64):
        a, b = found[start : start + 64], wanted[start : start + 64]
        errors.append(largest_by_row(a, b))
        flipped = a.argmax(axis=-1) != b.argmax(axis=-1)
        margins += [
            margin(row, int(choice)) for row, choice in zip(b[flipped], a[flipped].argmax(axis=-1), strict=True)
        ]
    rows = np.concatenate(errors) if errors else np.zeros(0, np.float32)
    worst = float(rows.max(initial=0.0))
    return {"max_abs": worst, "rows": rows, "flips": margins, "positions": len(wanted), "compared": int(wanted.size)}


def summarize(partials: list[Partial], observed: Any, reference: Reference) -> list[Measure]:
    """max_abs, flips that its size cannot explain, near ties, batch dependence, and how large logits are."""
    worst = max(partials, key=lambda partial: partial["max_abs"])
    positions = sum(partial["positions"] for partial in partials)
    flips = [margin for partial in partials for margin in partial["flips"]]
    hard = [margin for margin in flips if not tied(margin, worst["max_abs"])]
    near = len(flips) - len(hard)
    dependence = [partial["dependence"] for partial in partials if partial["dependence"] is not None]
    where = f"largest in {worst['case']}"
    demanded = [partial["on_demand"] for partial in partials if partial["on_demand"] is not None]
    offered = Measure("on_demand", max(demanded, default=0.0), len(demanded), unit="logit")
    ties = f"{near} of {positions} positions; largest margin {max(flips, default=0):.2g}"
    return [
        Measure("max_abs", worst["max_abs"], sum(p["compared"] for p in partials), unit="logit", detail=where),
        Measure("argmax_mismatch", len(hard), positions, fixed=0, detail=f"margins {hard[:3]}" if hard else ""),
        Measure("near_ties", near / positions, positions, detail=ties),
        Measure("batch_dependence", max(dependence, default=0.0), len(dependence), unit="logit"),
        Measure(RANGE, max(partial["range"] for partial in partials), positions, unit="logit", judged=False),
        # A graph of another program need not offer this: the check `structure` says whether it must.
        *([offered] if demanded else []),
    ]


def series(partials: list[Partial], observed: dict[str, float], reference: Reference) -> dict[str, Any]:
    """Largest error by position; by rank in the reference's order, largest and mean; margins of changed top tokens."""
    context = reference.context
    at = np.concatenate([partial["at"] for partial in partials])
    errors = np.concatenate([partial["rows"] for partial in partials])
    width = -(-context // BUCKETS)
    buckets = np.full(-(-context // width), -1.0)  # -1: no position of the bucket was run
    shown = at < context  # beyond a recipe's cap lies a short text that was moved there
    np.maximum.at(buckets, at[shown] // width, errors[shown])
    count = sum(partial["ranked"] for partial in partials)
    ranks = np.stack([partial["by_rank"] for partial in partials])
    return {
        "by_position": {"width": width, "max": [None if error < 0 else float(error) for error in buckets]},
        "by_rank": {
            "ends": [*(end for end in RANKS if end < reference.dimensions.vocabulary), reference.dimensions.vocabulary],
            "max": ranks[:, 0].max(axis=0).tolist(),
            "mean": (ranks[:, 1].sum(axis=0) / count).tolist(),
            "positions": count,
        },
        "near_ties": {
            "limit": observed["logits.max_abs"],
            "choices": [{"kind": "teacher-forced", "margin": m} for partial in partials for m in partial["flips"]],
        },
    }


def case_of(name: str, batch: Batch, reference: Reference) -> Case:
    """The reference's logits; and, for some of the real positions, the vocabulary in the order that it prefers."""
    logits = reference.forward(batch.ids, batch.mask, batch.positions).logits
    real = logits[batch.mask == 1]
    ranked = np.unique(np.linspace(0, len(real) - 1, RANKED).astype(np.int64))
    order = np.argsort(-real[ranked], axis=-1, kind="stable").astype(np.int32)
    arrays = {"ids": batch.ids, "mask": batch.mask, "positions": batch.positions, "logits": logits}
    return Case(name, {**arrays, "ranked": ranked, "order": order})


def _by_rank(found: Array, wanted: Array, case: Case) -> Array:
    """Per bucket of ranks the largest |error|, and the sum over the ranked rows of its mean: float64 [2, buckets]."""
    rows, order = case.arrays["ranked"], case.arrays["order"]
    errors = np.take_along_axis(np.abs(found[rows] - wanted[rows]), order, axis=-1)
    starts = [0, *(end for end in RANKS if end < errors.shape[-1])]
    sizes = np.diff([*starts, errors.shape[-1]])
    sums = np.add.reduceat(errors, starts, axis=-1, dtype=np.float64)
    return np.stack([np.maximum.reduceat(errors, starts, axis=-1).max(axis=0), (sums / sizes).sum(axis=0)])


def _dependence(candidate: Candidate, together: Array, case: Case) -> float:
    """Largest difference between a row's logits in the batch and the same row, same padding, alone."""
    ids, mask, positions = (case.arrays[name] for name in ("ids", "mask", "positions"))
    worst = 0.0
    for row in range(len(ids)):
        cut, real = slice(row, row + 1), mask[row] == 1
        alone = candidate.forward(ids[cut], mask[cut], positions[cut]).logits
        worst = max(worst, largest(alone[0, real], together[row, real]))
    return worst


def _on_demand(candidate: Candidate, whole: Array, case: Case) -> float:
    """Largest difference between the last logits asked for alone (1, 2, all, one more than all) and those of all.

    Of a long text the last one only: the number asked for meets the length in one slice before the head.
    """
    ids, mask, positions = (case.arrays[name] for name in ("ids", "mask", "positions"))
    worst = 0.0
    length = ids.shape[1]
    for keep in (1,) if length >= LONG else sorted({1, min(2, length), length, length + 1}):
        kept = candidate.forward(ids, mask, positions, keep=keep).logits
        real = mask[:, -keep:] == 1
        worst = max(worst, largest(kept[real], whole[:, -keep:][real]))
    return worst


def _inputs(case: Case) -> Iterator[tuple[str, Input]]:
    yield "", fed(case)


def _case_on(reference: Reference, given: Input) -> Case:
    return case_of("minimised", Batch(given.ids, given.mask, given.positions), reference)


EXPLAINING: Explaining | None = Explaining(
    measures={
        "max_abs": Ease.PASS,
        "batch_dependence": Ease.ROWS,
        "on_demand": Ease.ROWS,
        "argmax_mismatch": Ease.ROWS,
        "near_ties": Ease.TIES,
    },
    inputs=_inputs,
    case=_case_on,
    keeps={"on_demand": (1, 2)},
)


def _asked(reference: Reference, prompts: Sequence[Prompt], settings: Settings) -> Iterator[Case]:
    for prompt in prompts:
        yield case_of(prompt.name, left_padded([prompt.ids], 0), reference)


PROMPTING: Prompting | None = Prompting(
    cases=_asked,
    summarize=summarize,
    figures=("max_abs", "argmax_mismatch", "on_demand"),
    averages=("near_ties",),
)
