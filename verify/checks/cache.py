"""cache: the same tokens in pieces of any size must give what one full pass gives, and the reference's cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import numpy as np

from verify.candidate.input import Input, fed
from verify.candidate.session import Candidate
from verify.check import Array, Case, Ease, Explaining, Measure, Partial, Prompting, largest
from verify.checks.logits import LONG, RANGE
from verify.reference import padding_cases
from verify.reference.corpus import Batch
from verify.settings import require_lengths, require_positive

if TYPE_CHECKING:  # torch takes seconds to load
    from verify.reference.model import Reference

NEEDS: tuple[str, ...] = ()
PER_LEVEL = True
TOLERATED = {"max_abs": "max", "self_max_abs": "max", "present_max_abs": "max"}
JUDGES = "graph"
PROMPTING: Prompting | None = None
SEEDED = True
ROUNDING = 1e-3  # of the largest logit: float32 sums in another order differ by a thousandth of that
BRIEF: Mapping[str, Any] = {"length": 20, "prompt": 9, "splits": 2}


@dataclass(frozen=True)
class Settings:
    """Length of the decoded text, prompt of the token-by-token decode, row lengths of the batch, random splits."""

    length: int = 48
    prompt: int = 16
    batch: tuple[int, ...] = (9, 3, 14)
    splits: int = 4
    tail: int = 3  # tokens decoded one by one up to the very end of the context

    def check(self, where: str, context: int) -> None:
        """RecipeError for a text or batch too short to be cut, or longer than the context."""
        require_lengths((self.length,), f"{where}: length", context, least=4)
        require_lengths((self.prompt,), f"{where}: prompt", self.length - 1)
        require_lengths(self.batch, f"{where}: batch", context)
        require_lengths((max(self.batch),), f"{where}: batch, the longest row", context, least=4)
        require_lengths((self.tail,), f"{where}: tail", context - 1)
        require_lengths((padding_cases.LEAST,), f"{where}: conversation", context)
        require_positive(self.splits, f"{where}: splits")


def cases(reference: Reference, corpus: Any, settings: Settings) -> Iterator[Case]:
    """Pieces of a text, a left-padded batch, a conversation, a full context; each with the reference's single pass."""
    context = reference.context
    single = corpus.batch((settings.length,), 200, 0)
    rest = settings.length - settings.prompt
    # A step's result depends on its past and on nothing else, so each place is decoded once: in the one or the other.
    plans = {
        "prefill and decode": [settings.prompt, *[1] * rest],
        "decode from nothing": [*[1] * settings.prompt, rest],
    }
    for number in range(settings.splits):
        plans[f"random split {number}"] = _random_split(settings.length, corpus.seed, number)
    yield _case("text", single, plans, reference)
    rows = corpus.batch(settings.batch, 210, reference.end or 0)
    longest = max(settings.batch)
    plans = {
        "batch prefill and decode": [longest - 3, 1, 1, 1],
        "batch in pieces": [2, longest - 2],
        "batch from nothing": [*[1] * (longest - 3), 3],
    }
    yield _case("left-padded batch", rows, plans, reference)
    talk, turns = padding_cases.conversation(reference, corpus)
    yield _case("conversation in a batch", talk, {"conversation": turns}, reference)
    full = corpus.batch((context,), 220, 0)
    # Two tokens between long pieces, for what either alone brings out; the first longer than half, as no other text is.
    middle = context * 5 // 8
    cuts = sorted({cut for cut in (middle - 1, middle + 1) if 0 < cut < context - settings.tail})
    plan = [*map(int, np.diff([0, *cuts, context - settings.tail])), *[1] * settings.tail]
    plans = {"up to the context limit": plan, "steps around powers of two": _around_powers(context)}
    yield _case("full context", full, plans, reference)


def judge(candidate: Candidate, case: Case) -> Partial:
    """Errors of every plan against the reference's pass, the candidate's own pass, and the reference's cache."""
    ids, mask, positions, wanted = (case.arrays[name] for name in ("ids", "mask", "positions", "logits"))
    real = mask == 1
    whole = candidate.forward(ids, mask, positions).logits
    result: Partial = {"max_abs": {}, "self_max_abs": {}, "present_max_abs": {}, "compared": 0, "present": 0}
    if not real.all() and not case.facts["padding_counts"]:
        asked = partial(_alone, candidate)
        result["self_max_abs"][f"{case.name}: rows without padding"] = _without_padding(asked, case.arrays, whole)
    layers: dict[str, float] = {}
    for name, plan in case.facts["plans"].items():
        logits, cache, demanded = _run(candidate, ids, mask, positions, plan)
        result["max_abs"][name] = largest(logits[real], wanted[real])
        result["self_max_abs"][name] = largest(logits[real], whole[real])
        result["self_max_abs"][f"{name}, last logits asked for alone"] = demanded
        errors = _present_errors(cache, case, real)
        result["present_max_abs"][name] = max(errors.values())
        layers = {part: max(error, layers.get(part, 0.0)) for part, error in errors.items()}
        result["compared"] += int(real.sum()) * wanted.shape[-1]
        result["present"] += sum(int(array.size) for array in cache.values())
    return {**result, "layers": layers, "range": _range(case, real)}


def summarize(partials: list[Partial], observed: Any, reference: Reference) -> list[Measure]:
    """The largest error of each kind, and the plan it occurred in; and the cache's largest value, shown only."""
    measures = []
    for name, unit in (("max_abs", "logit"), ("self_max_abs", "logit"), ("present_max_abs", "")):
        errors = {plan: error for partial in partials for plan, error in partial[name].items()}
        worst = max(errors, key=lambda plan: errors[plan])
        compared = sum(partial["present" if name == "present_max_abs" else "compared"] for partial in partials)
        measures.append(Measure(name, errors[worst], compared, unit=unit, detail=f"largest in {worst}"))
    size = max(partial["range"] for partial in partials)
    return [*measures, Measure(RANGE, size, sum(partial["present"] for partial in partials), judged=False)]


def series(partials: list[Partial], observed: Any, reference: Reference) -> dict[str, Any]:
    """Largest error of each layer's cache, keys and values apart; and of the logits, by plan."""
    worst = {
        part: [
            max((partial["layers"].get(f"{layer}.{part}", np.inf) for partial in partials), default=np.inf)
            for layer in range(reference.dimensions.layers)
        ]
        for part in ("key", "value")
    }
    plans = {plan: error for partial in partials for plan, error in partial["max_abs"].items()}
    return {"by_layer": worst, "by_plan": plans}


def _run(
    candidate: Candidate, ids: Array, mask: Array, positions: Array, plan: list[int]
) -> tuple[Array, dict[str, Array], float]:
    """Feed the pieces one after the other, each with the cache that the one before it returned.

    Also by how much the last logits of a piece after a past differ where they are asked for alone.
    """
    cache: dict[str, Array] | None = None
    pieces, at, demanded = [], 0, 0.0
    for size in plan:
        end = at + size
        feed = (ids[:, at:end], mask[:, :end], positions[:, at:end], cache)
        step = candidate.forward(*feed)
        pieces.append(step.logits)
        if cache and 1 < size < LONG and candidate.offers_last_logits:
            rows = mask[:, end - 1] == 1
            demanded = max(demanded, largest(candidate.forward(*feed, keep=1).logits[rows], step.logits[rows, -1:]))
        cache, at = step.cache, end
    return np.concatenate(pieces, axis=1), cache or {}, demanded


def _without_padding(ask: Callable[[Array, Array], Array], arrays: Mapping[str, Array], whole: Array) -> float:
    """Largest difference between a row in its batch and its real tokens alone: padding, wherever it is, is nothing.

    `ask` gives the logits of ids and positions [1, length].
    """
    worst = 0.0
    for row, real in enumerate(arrays["mask"] == 1):
        ids, positions = (arrays[name][row : row + 1, real] for name in ("ids", "positions"))
        worst = max(worst, largest(ask(ids, positions)[0], whole[row, real]))
    return worst


def _alone(model: Candidate | Reference, ids: Array, positions: Array) -> Array:
    return model.forward(ids, np.ones_like(ids), positions).logits


def _present_errors(cache: dict[str, Array], case: Case, real: Array) -> dict[str, float]:
    """Largest difference of each tensor to the reference's cache at real positions; infinite if any is missing."""
    wanted = {name.removeprefix("present."): a for name, a in case.arrays.items() if name.startswith("present.")}
    if cache.keys() != wanted.keys():
        return dict.fromkeys(wanted, float("inf"))
    return {
        name: largest(cache[name].transpose(0, 2, 1, 3)[real], wanted[name].transpose(0, 2, 1, 3)[real])
        for name in sorted(wanted)
    }


def _range(case: Case, real: Array) -> float:
    """Largest absolute value of the reference's cache at real positions."""
    present = (array for name, array in case.arrays.items() if name.startswith("present."))
    return max(float(np.abs(array.transpose(0, 2, 1, 3)[real]).max()) for array in present)


def _case(name: str, batch: Batch, plans: dict[str, list[int]], reference: Reference) -> Case:
    answer = reference.forward(batch.ids, batch.mask, batch.positions)
    present = {f"present.{key}": value for key, value in answer.present().items()}
    arrays = {"ids": batch.ids, "mask": batch.mask, "positions": batch.positions, "logits": answer.logits, **present}
    return Case(name, arrays, {"plans": plans, "padding_counts": _padding_counts(reference, arrays)})


def _padding_counts(reference: Reference, arrays: Mapping[str, Array]) -> bool:
    """Return whether padding between a row's tokens moves the reference's own logits: in a window it takes a place."""
    if bool((arrays["mask"] == 1).all()):
        return False
    moved = _without_padding(partial(_alone, reference), arrays, arrays["logits"])
    return moved > ROUNDING * float(np.abs(arrays["logits"]).max())


def _around_powers(context: int) -> list[int]:
    """Piece sizes that add up to the context: one token at a time at every power of two, where kernels change."""
    powers = (2**exponent for exponent in range(4, 31))
    cuts = {
        cut for power in takewhile(lambda power: power + 1 < context, powers) for cut in range(power - 2, power + 2)
    }
    return [int(size) for size in np.diff([0, *sorted(cuts), context])]


def _random_split(length: int, seed: int, number: int) -> list[int]:
    """Piece sizes that add up to `length`, cut at random places."""
    rng = np.random.default_rng([seed, length, number])
    cuts = np.sort(rng.choice(np.arange(1, length), size=min(length - 1, 1 + number * 2), replace=False))
    return [int(size) for size in np.diff([0, *cuts, length])]


def _inputs(case: Case) -> Iterator[tuple[str, Input]]:
    for name, plan in case.facts["plans"].items():
        yield f": {name}", fed(case, tuple(plan))


def _case_on(reference: Reference, given: Input) -> Case:
    batch = Batch(given.ids, given.mask, given.positions)
    return _case("minimised", batch, {"minimised": list(given.pieces)}, reference)


EXPLAINING: Explaining | None = Explaining(
    measures=dict.fromkeys(("max_abs", "present_max_abs", "self_max_abs"), Ease.CALLS),
    inputs=_inputs,
    case=_case_on,
    keeps={"self_max_abs": (0, 1)},
)
