"""The best mixture within a budget: bits, block and scheme of every tensor, chosen by measured KL divergence.

What each choice costs is measured one tensor at a time against the fp32 graph (quantize.search.sensitivity) and taken
to add up; the best sum within the budget is a knapsack (quantize.search.allocate); the graph so made is measured
as a whole, with its int8 activations, on text that neither saw, and the budget of the sum corrected until the graph's
own figures hold (quantize.search.search).
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from pipeline.errors import RecipeError
from quantize.blockwise import (
    LEVELS,
    Choice,
    blockwise_schemes,
    centre,
    check_frequent,
    require_rows,
    rounds_centred,
)
from quantize.numerics.blocks import BITS, SIZES, Form
from quantize.rewrite.lookup import place
from quantize.rewrite.weights import Weight, find_weights
from quantize.scheme import PLAN, Context, check_choice
from quantize.search.search import Budget, search
from quantize.search.sensitivity import Slot

CALIBRATED = True
NEEDS_TEXT = True


@dataclass(frozen=True)
class Storage:
    """One way to store a tensor; bits 0 keep it float.

    `frequent` is for the vocabulary's tables: above 0, only so many first rows have `bits`, the others two bits fewer.
    """

    bits: int
    block: int = 32
    symmetric: bool = True
    scheme: str = "gptq"
    accuracy_level: int = 4
    frequent: int = 0

    def check(self, where: str) -> None:
        """Raise RecipeError for a value that cannot be."""
        check_choice("bits", self.bits, (0, *BITS), where)
        check_choice("block", self.block, SIZES, where)
        check_choice("accuracy_level", self.accuracy_level, LEVELS, where)
        check_frequent(self.frequent, self.bits, where)
        if self.scheme not in blockwise_schemes():
            hint = f"write one of {', '.join(blockwise_schemes())}"
            raise RecipeError(f"{self.scheme!r} has no blocks", where=f"{where}: scheme", hint=hint)

    def choice(self, weight: Weight, *, centred: bool) -> Choice | None:
        """As the measurements know it."""
        form = Form(self.bits, self.block, self.symmetric, self.frequent)
        own = rounds_centred(weight, self.accuracy_level, asked=centred)
        return Choice(self.scheme, form, self.accuracy_level, own) if self.bits else None


# Blocks for which a row's result depends on no other row, to the last bit, where there is AVX-512 (decision 0036). The
# head is the last product, where nothing amplifies a last bit, so that its blocks may be longer. Nothing has 2 bits:
# GPTQ then fits the calibration text so closely that other text fares twenty times worse, and no part of the same text
# can show it (decision 0008).
BODY = (
    Storage(4),
    Storage(4, symmetric=False),
    Storage(6),
    Storage(8, 64),
    Storage(8),
)
TABLE = (
    Storage(4),
    Storage(4, 128),
    Storage(6, 256),
    Storage(6, 128),
    Storage(6, 64),
    Storage(8, 256),
    Storage(8, 128),
    Storage(8, 64),
    Storage(8),
)
LOOKUPS = (Storage(8, scheme="rtn"), Storage(0))


@dataclass(frozen=True)
class Options:
    """Either `max_bytes`: the best fidelity within it; or `max_mean_kld`, `max_p999_kld` or both: the smallest file.

    Bytes are those of the graph's file after this step; divergences in nats, on calibration text that nothing else is
    measured on. `candidates` are for linear layers, `embedding_candidates` for the vocabulary's tables,
    `position_candidates` for other lookup tables. `centred`: the head rounds its input less its mean (blockwise.py).
    """

    max_bytes: int | None = None
    max_mean_kld: float | None = None
    max_p999_kld: float | None = None
    candidates: tuple[Storage, ...] = BODY
    embedding_candidates: tuple[Storage, ...] = TABLE
    position_candidates: tuple[Storage, ...] = LOOKUPS
    centred: bool = False

    def check(self, where: str) -> None:
        """Raise RecipeError for no budget or two of different kinds, and for candidates that cannot be."""
        klds = [value for value in (self.max_mean_kld, self.max_p999_kld) if value is not None]
        if (self.max_bytes is None) == (not klds):
            hint = "write max_bytes, or one or both of max_mean_kld and max_p999_kld"
            raise RecipeError("a budget of one kind is needed", where=where, hint=hint)
        if any(value <= 0 for value in (*klds, 1 if self.max_bytes is None else self.max_bytes)):
            raise RecipeError("a budget must be positive", where=where, hint="write a number above 0")
        for name in ("candidates", "embedding_candidates", "position_candidates"):
            if not getattr(self, name):
                hint = f"name at least one, or leave {name} out for all"
                raise RecipeError("no candidates", where=f"{where}: {name}", hint=hint)
            for i, candidate in enumerate(getattr(self, name)):
                candidate.check(f"{where}: {name}[{i}]")
                if candidate.frequent and name != "embedding_candidates":
                    hint = "leave it out, or move the candidate to embedding_candidates"
                    what = "only the rows of the vocabulary's tables are tokens in the order of their frequency"
                    raise RecipeError(what, where=f"{where}: {name}[{i}]: frequent", hint=hint)


def apply(model: ir.Model, options: Options, context: Context) -> None:
    """Find the plan, carry it out, record it in the manifest's facts. RecipeError if no plan keeps the budget."""
    budget = Budget(options.max_bytes, options.max_mean_kld, options.max_p999_kld)
    weights = find_weights(model, context.dims)
    groups = (
        (weights.body, options.candidates),
        (weights.tables, options.embedding_candidates),
        (weights.lookups, options.position_candidates),
    )
    slots = [_slot(weight, candidates, centred=options.centred) for members, candidates in groups for weight in members]
    plan = search(slots, budget, context)
    for weight, choice, blocks in plan.steps:
        place(model, weight, blocks, choice.level, centre(weight, choice, context))
    context.facts[PLAN] = plan.facts


def _slot(weight: Weight, candidates: tuple[Storage, ...], *, centred: bool) -> Slot:
    choices = dict.fromkeys(candidate.choice(weight, centred=centred) for candidate in candidates)
    for choice in filter(None, choices):
        require_rows(weight, choice.form, "auto: embedding_candidates")
    return Slot(weight, tuple(choices))
