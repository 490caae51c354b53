"""Faults in who may look at whom: padding, causality, and the score of what is masked."""

from __future__ import annotations

import numpy as np

from verify.faults.fault import Subject, fault
from verify.faults.surgery import Graft, end_of, must_make, operators, rewire, write


@fault(node="real")
def mask_ignored(subject: Subject) -> None:
    """Padding is looked at like text."""
    rewire(subject.model, "real", lambda graft, right: graft.op("Or", right, graft.op("Not", right)))


@fault(node="causal")
def not_causal(subject: Subject) -> None:
    """Every token sees the future."""
    (compare,) = operators(subject.model, "GreaterOrEqual")
    compare.input[1] = compare.input[0]


@fault(node="causal")
def causal_mask_off_by_one(subject: Subject) -> None:
    """Every token sees one token of the future."""
    one = "one"
    rewire(subject.model, "rows", lambda graft, right: graft.op("Add", right, one))


@fault(node="causal")
def own_token_unseen(subject: Subject) -> None:
    """A token sees what is before it, but not itself."""
    must_make(subject.model, "causal").op_type = "Greater"


@fault(node="real")
def mask_wrong_for_the_second_row(subject: Subject) -> None:
    """The second row of a batch is treated as if it had no padding."""

    def second(graft: Graft, right: str) -> str:
        count = graft.op("Squeeze", graft.size("attention_mask", 0))
        rows = graft.op("Range", graft.number(0, np.int64), count, graft.number(1, np.int64))
        chosen = graft.op("Equal", rows, graft.number(1, np.int64))
        return graft.op("Or", right, graft.op("Unsqueeze", chosen, graft.number([1], np.int64)))

    rewire(subject.model, "real", second)


@fault(node="real")
def mask_ignored_after_a_past(subject: Subject) -> None:
    """Padding is looked at like text as soon as there is a past: right in the prefill, wrong in every step after it."""

    def later(graft: Graft, right: str) -> str:
        return graft.op("Or", right, graft.op("Greater", graft.past(), graft.number([0], np.int64)))

    rewire(subject.model, "real", later)


@fault(node="causal")
def window_of_half_the_context(subject: Subject) -> None:
    """A token sees only as far back as half of the context."""
    half = subject.dims.context // 2

    def near(graft: Graft, right: str) -> str:
        least = graft.op("Sub", "rows", graft.number(half, np.int64))
        return graft.op("And", right, graft.op("Greater", "slots", least))

    rewire(subject.model, "causal", near)


@fault(node="attention_bias", magnitude=0.01)
def masked_score_too_high(subject: Subject, magnitude: float) -> None:
    """Masked positions keep this much weight beside a token of equal score: -4.6 in the place of -10000."""
    write(subject.model, "masked", np.log(np.asarray(magnitude)))


@fault(node="attention_bias", magnitude=0.1)
def first_token_favoured(subject: Subject, magnitude: float) -> None:
    """The score of the very first slot is raised, as an attention sink would be."""

    def raised(graft: Graft, right: str) -> str:
        first = graft.op("Equal", "slots", graft.number(0, np.int64))
        extra = graft.op("CastLike", graft.choose(first, magnitude, 0), right)
        return graft.op("Add", right, extra)

    rewire(subject.model, "attention_bias", raised)


@fault(node="real")
def mask_taken_for_left_padding(subject: Subject) -> None:
    """Of the mask only its sum is read, as so many tokens at the end: padding on the right and gaps are not seen."""

    def summed(graft: Graft, _right: str) -> str:
        count = graft.op("ReduceSum", "attention_mask", graft.number([1], np.int64), keepdims=1)
        return graft.op("GreaterOrEqual", "slots", graft.op("Sub", "total", count))

    rewire(subject.model, "real", summed)


@fault(node="real")
def end_token_masked(subject: Subject) -> None:
    """The end token is taken for padding wherever it stands, as a mask made from the ids would have it."""

    def masked(graft: Graft, right: str) -> str:
        begin, axis = graft.op("Neg", graft.size("input_ids", 1)), graft.number([1], np.int64)
        past = graft.op("Slice", right, graft.number([0], np.int64), begin, axis)
        own = graft.op("Slice", right, begin, graft.number([2**31], np.int64), axis)
        ends = graft.op("Equal", "input_ids", graft.number(end_of(subject), np.int64))
        return graft.op("Concat", past, graft.op("And", own, graft.op("Not", ends)), axis=1)

    rewire(subject.model, "real", masked)


@fault(node="attention_bias")
def masked_score_of_minus_fifteen(subject: Subject) -> None:
    """Masked positions keep 3e-7 of the weight that they would have: padding is nearly nothing, and not nothing."""
    write(subject.model, "masked", np.asarray(-15.0))
