"""From sensitivities to a graph that keeps its budget: allocate, build, measure the whole, correct, again."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import onnx_ir as ir

from model import external_data
from pipeline.command import say
from pipeline.errors import RecipeError
from quantize.blockwise import Choice, centre, scheme_of, solve
from quantize.calibration import COUNTS
from quantize.numerics.blocks import Blocks, Floats
from quantize.rewrite.graph import clean, load
from quantize.rewrite.lookup import place
from quantize.rewrite.weights import Weight, find_weights
from quantize.runner import GraphRunner, Ids
from quantize.scheme import Context
from quantize.search.allocate import Item, Limit, allocate
from quantize.search.fidelity import Fidelity, divergences, fidelity
from quantize.search.sensitivity import Slot, measure, size

ROUNDS = 8
CHUNKS = COUNTS["judge"]  # of the calibration text's part "judge"; the second half of each is scored
Picks = tuple[int, ...]


@dataclass(frozen=True)
class Budget:
    """State what a plan must keep: bytes of the file, or divergences in nats."""

    max_bytes: int | None
    max_mean_kld: float | None
    max_p999_kld: float | None

    def excess(self, size: int, found: Fidelity) -> float:
        """The largest ratio of a figure to its bound; the budget is kept at 1 and below."""
        bounds = ((size, self.max_bytes), (found.mean_kld, self.max_mean_kld), (found.p999_kld, self.max_p999_kld))
        return max(value / bound for value, bound in bounds if bound is not None)


@dataclass(frozen=True)
class Built:
    """A plan carried out on the fp32 graph, and what the graph so made measures."""

    picks: Picks
    bytes: int
    fidelity: Fidelity


@dataclass(frozen=True)
class Plan:
    """State what to place where, and the figures for the artifact's record."""

    steps: list[tuple[Weight, Choice, Blocks]]
    facts: dict[str, Any]


@dataclass
class PlanBuilder:
    """Builds and measures plans; what has been measured once is kept."""

    slots: Sequence[Slot]
    context: Context
    built: dict[Picks, Built] = field(default_factory=dict)

    def build(self, picks: Picks) -> Built:
        """The whole graph of a plan: its bytes, and its fidelity with int8 activations where products round them."""
        if picks not in self.built:
            model = load(self.context.graph)
            weights = find_weights(model, self.context.dims)
            places = {w.stem: w for w in (*weights.body, *weights.tables, *weights.lookups)}
            for weight, choice, blocks in self.steps(picks):
                place(model, places[weight.stem], blocks, choice.level, centre(weight, choice, self.context))
            clean(model)
            self.built[picks] = Built(picks, external_data.size(model), self._judge(model))
        return self.built[picks]

    def steps(self, picks: Picks) -> list[tuple[Weight, Choice, Blocks]]:
        """Return what a plan places; a tensor that stays float is left out."""
        found = []
        for slot, pick in zip(self.slots, picks, strict=True):
            choice = slot.choices[pick]
            if choice is not None:
                found.append((slot.weight, choice, solve(slot.weight, choice, self.context)))
        return found

    @cached_property
    def _reference(self) -> list[tuple[Ids, Floats]]:
        """Texts, and the fp32 graph's logits for the second half of each: a session less beside each plan's."""
        runner = GraphRunner(self.context.graph)
        texts = self.context.calibrated("auto").pieces("judge", CHUNKS)
        return [(ids, runner.logits(ids, len(ids) // 2)) for ids in texts]

    def _judge(self, model: ir.Model) -> Fidelity:
        candidate = GraphRunner(model)
        klds, same = [], []
        for ids, a in self._reference:
            b = candidate.logits(ids, len(a))
            klds.append(divergences(a, b))
            same.append(a.argmax(axis=-1) == b.argmax(axis=-1))
        return fidelity(np.concatenate(klds), np.concatenate(same))


def search(slots: Sequence[Slot], budget: Budget, context: Context) -> Plan:
    """The best plan found within the budget. RecipeError, saying what is possible, when there is none."""
    items = measure(slots, context)
    builder = PlanBuilder(slots, context)
    limit: Limit = "kld" if budget.max_bytes is None else "bytes"
    room = Room(limit, budget, _rest(slots, context))
    extreme = _least(items, limit)  # if the estimates say that nothing fits, the least is built once: they may be wrong
    best: Built | None = None
    for _ in range(ROUNDS):
        picks = allocate(items, limit, room.size) or extreme
        known = picks in builder.built
        built = builder.build(picks)
        excess = budget.excess(built.bytes, built.fidelity)
        if known and excess <= 1:
            break
        if not known:
            _report(built, items)
        if excess <= 1 and (best is None or _cost(built, limit) < _cost(best, limit)):
            best = built
        spent = sum(getattr(row[pick], limit) for row, pick in zip(items, picks, strict=True))
        room.correct(spent, excess, built.bytes)
    if best is None:
        raise RecipeError("no plan keeps the budget", where="auto", hint=_possible(builder, items))
    return Plan(builder.steps(best.picks), _facts(slots, items, best))


class Room:
    """Hold the budget that is given to the sum over tensors, corrected after each whole graph is measured."""

    def __init__(self, limit: Limit, budget: Budget, rest: int) -> None:
        self.limit = limit
        self.budget = budget
        self.size = _first_kld(budget) if budget.max_bytes is None else float(budget.max_bytes - rest)
        self._kept, self._broken = 0.0, math.inf

    def correct(self, spent: float, excess: float, size: int) -> None:
        """After a plan whose sum was `spent`: real bytes differ from it by a fixed part, divergence by a factor near 1.

        Measured divergence is not quite monotonous in the sum, so that between a sum that kept the budget and one that
        broke it the geometric mean is tried.
        """
        if self.limit == "bytes":
            over = size - float(self.budget.max_bytes or 0)
            # A plan may leave room that it is given, so what is too much is taken from its own sum.
            self.size = spent - over if over > 0 else self.size - over
            return
        if excess <= 1:
            self._kept = max(self._kept, spent)
        else:
            self._broken = min(self._broken, spent)
        self.size = spent / excess
        if not self._kept < self.size < self._broken and 0 < self._kept < self._broken < math.inf:
            self.size = math.sqrt(self._kept * self._broken)


def _rest(slots: Sequence[Slot], context: Context) -> int:
    """Bytes of the fp32 file that are no tensor of a slot."""
    return context.graph.stat().st_size - sum(size(slot.weight, None) for slot in slots)


def _first_kld(budget: Budget) -> float:
    """Return where to begin: the mean's bound; without one a tenth of the 99.9 % quantile's, their usual ratio."""
    return budget.max_mean_kld if budget.max_mean_kld is not None else (budget.max_p999_kld or 0.0) / 10


def _cost(built: Built, limit: Limit) -> float:
    return built.fidelity.mean_kld if limit == "bytes" else built.bytes


def _possible(builder: PlanBuilder, items: Sequence[Sequence[Item]]) -> str:
    built = builder.build(_least(items, "bytes"))
    fine = builder.build(_least(items, "kld"))
    ends = [f"{plan.bytes:,} bytes and a mean KLD of {plan.fidelity.mean_kld:.2e}" for plan in (built, fine)]
    return f"add candidates, or allow what is possible: from {ends[0]} to {ends[1]}"


def _least(items: Sequence[Sequence[Item]], of: Limit) -> Picks:
    return tuple(int(np.argmin([getattr(item, of) for item in row])) for row in items)


def _report(built: Built, items: Sequence[Sequence[Item]]) -> None:
    predicted = sum(row[pick].kld for row, pick in zip(items, built.picks, strict=True))
    found = built.fidelity
    say(
        f"auto: {built.bytes:,} bytes, mean KLD {found.mean_kld:.2e} (sum of sensitivities {predicted:.2e}), "
        f"99.9 % {found.p999_kld:.2e}, same top {found.same_top:.1%}"
    )


def _facts(slots: Sequence[Slot], items: Sequence[Sequence[Item]], best: Built) -> dict[str, Any]:
    tensors: dict[str, Mapping[str, Any]] = {}
    for slot, row, pick in zip(slots, items, best.picks, strict=True):
        choice = slot.choices[pick]
        how: dict[str, Any] = {"bits": 32}
        if choice is not None:
            settings = {**asdict(choice.form), "level": choice.level, "centred": choice.centred}
            how = {"scheme": scheme_of(slot.weight, choice), **settings}
        tensors[slot.weight.stem] = {**how, "bytes": row[pick].bytes, "kld": float(f"{row[pick].kld:.3g}")}
        what = _describe(slot.weight, choice)
        say(f"  {slot.weight.stem}: {what}, {row[pick].bytes:,} bytes, KLD {row[pick].kld:.1e}")
    return {"bytes": best.bytes, **asdict(best.fidelity), "tensors": tensors}


def _describe(weight: Weight, choice: Choice | None) -> str:
    if choice is None:
        return "float"
    form = choice.form
    bits = f"{form.bits} bits"
    if form.frequent:
        bits += f" in the first {form.frequent:,} rows, {form.tiers[1].bits} in the others"
    return f"{scheme_of(weight, choice)} {bits}, block {form.block}{'' if form.symmetric else ', zero points'}"
