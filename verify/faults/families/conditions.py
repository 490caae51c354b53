"""Faults that show only for inputs of a certain shape: what a check that runs one shape never sees."""

from __future__ import annotations

import numpy as np

from model.landmarks import Landmarks
from verify.faults.fault import Subject, fault
from verify.faults.surgery import Graft, rewire, scaled_if


def block(at: Landmarks) -> str:
    """Return what block 2 leaves in the residual stream, float32 in every variant; in a small model, the last but one.

    After the last one comes a norm and nothing else, which takes a factor away.
    """
    return at.layer(min(2, max(len(at.layers) - 2, 0))).block


@fault(node=block, magnitude=0.05)
def only_one_token(subject: Subject, magnitude: float) -> None:
    """Block 2 is scaled when one token is read: every step of generation, no prefill."""

    def alone(graft: Graft) -> str:
        return graft.op("Equal", graft.size("input_ids", 1), graft.number([1], np.int64))

    rewire(subject.model, block(subject.at), scaled_if(alone, magnitude))


@fault(node=block, magnitude=0.05)
def only_several_tokens_after_a_past(subject: Subject, magnitude: float) -> None:
    """Block 2 is scaled when several tokens are read after a past, as a chat's next message is."""

    def later(graft: Graft) -> str:
        several = graft.op("Greater", graft.size("input_ids", 1), graft.number([1], np.int64))
        return graft.op("And", several, graft.op("Greater", graft.past(), graft.number([0], np.int64)))

    rewire(subject.model, block(subject.at), scaled_if(later, magnitude))


@fault(node=block, magnitude=0.05)
def only_full_context(subject: Subject, magnitude: float) -> None:
    """Block 2 is scaled when past and present fill the whole context."""
    context = subject.dims.context

    def full(graft: Graft) -> str:
        return graft.op("Equal", graft.size("attention_mask", 1), graft.number([context], np.int64))

    rewire(subject.model, block(subject.at), scaled_if(full, magnitude))


@fault(node=block, magnitude=0.05)
def only_long_prompts(subject: Subject, magnitude: float) -> None:
    """Block 2 is scaled when more than half and at most three quarters of the context are read at once."""
    half, most = subject.dims.context // 2, subject.dims.context * 3 // 4

    def long(graft: Graft) -> str:
        size = graft.size("input_ids", 1)
        above = graft.op("Greater", size, graft.number([half], np.int64))
        return graft.op("And", above, graft.op("LessOrEqual", size, graft.number([most], np.int64)))

    rewire(subject.model, block(subject.at), scaled_if(long, magnitude))


@fault(node=block, magnitude=0.05)
def only_batches(subject: Subject, magnitude: float) -> None:
    """Block 2 is scaled when there is more than one row."""

    def several(graft: Graft) -> str:
        return graft.op("Greater", graft.size("input_ids", 0), graft.number([1], np.int64))

    rewire(subject.model, block(subject.at), scaled_if(several, magnitude))


@fault(node=block, magnitude=0.05)
def only_padded_batches(subject: Subject, magnitude: float) -> None:
    """Block 2 is scaled when any row is padded."""

    def padded(graft: Graft) -> str:
        least = graft.op("ReduceMin", "attention_mask", graft.number([0, 1], np.int64), keepdims=0)
        return graft.op("Equal", least, graft.number(0, np.int64))

    rewire(subject.model, block(subject.at), scaled_if(padded, magnitude))


@fault(node=block, magnitude=0.02)
def neighbour_leaks(subject: Subject, magnitude: float) -> None:
    """Every row but the first gets a little of the first row's residual stream."""

    def mix(graft: Graft, right: str) -> str:
        ends = [graft.number([at], np.int64) for at in (0, 1)]
        first = graft.op("Slice", right, ends[0], ends[1], ends[0])
        return graft.op("Add", right, graft.op("Mul", graft.op("Sub", first, right), graft.number(magnitude)))

    rewire(subject.model, block(subject.at), mix)


@fault(node=block, magnitude=0.05)
def only_the_batchs_last_row(subject: Subject, magnitude: float) -> None:
    """The last of several rows is scaled; a single row is not."""

    def last(graft: Graft) -> str:
        count = graft.op("Squeeze", graft.size("input_ids", 0))
        rows = graft.op("Range", graft.number(0, np.int64), count, graft.number(1, np.int64))
        end = graft.op("Sub", count, graft.number(1, np.int64))
        several = graft.op("Greater", end, graft.number(0, np.int64))
        chosen = graft.op("And", graft.op("Equal", rows, end), several)
        return graft.op("Unsqueeze", chosen, graft.number([1, 2], np.int64))

    rewire(subject.model, block(subject.at), scaled_if(last, magnitude))


@fault(node=block, variants=("fp16",))
def overflow_on_long_text(subject: Subject) -> None:
    """A factor goes through float16 and overflows when there are 128 tokens or more; below it is exactly 1."""

    def through(graft: Graft, right: str) -> str:
        total = graft.op("Cast", graft.size("attention_mask", 1), to=1)
        wide = graft.op("Mul", total, graft.number(512))
        narrow = graft.op("Cast", graft.op("Cast", wide, to=10), to=1)
        return graft.op("Mul", right, graft.op("Div", narrow, wide))

    rewire(subject.model, block(subject.at), through)


@fault(node=block, magnitude=0.05)
def only_several_tokens_after_a_long_past(subject: Subject, magnitude: float) -> None:
    """Block 2 is scaled when several tokens are read after a quarter of the context, as a chat's later messages are."""
    quarter = subject.dims.context // 4

    def later(graft: Graft) -> str:
        several = graft.op("Greater", graft.size("input_ids", 1), graft.number([1], np.int64))
        return graft.op("And", several, graft.op("GreaterOrEqual", graft.past(), graft.number([quarter], np.int64)))

    rewire(subject.model, block(subject.at), scaled_if(later, magnitude))


@fault(node=block, magnitude=0.05)
def only_batches_with_a_long_past(subject: Subject, magnitude: float) -> None:
    """Block 2 is scaled when several rows go on after a quarter of the context."""
    quarter = subject.dims.context // 4

    def later(graft: Graft) -> str:
        several = graft.op("Greater", graft.size("input_ids", 0), graft.number([1], np.int64))
        return graft.op("And", several, graft.op("GreaterOrEqual", graft.past(), graft.number([quarter], np.int64)))

    rewire(subject.model, block(subject.at), scaled_if(later, magnitude))


@fault(node=block, magnitude=0.05)
def only_batches_of_one_token(subject: Subject, magnitude: float) -> None:
    """Block 2 is scaled when several rows begin with one token each, as texts made from nothing do."""

    def beginning(graft: Graft) -> str:
        rows = graft.op("Greater", graft.size("input_ids", 0), graft.number([1], np.int64))
        return graft.op("And", rows, graft.op("Equal", graft.size("attention_mask", 1), graft.number([1], np.int64)))

    rewire(subject.model, block(subject.at), scaled_if(beginning, magnitude))


@fault(node=block, magnitude=0.05)
def only_more_than_four_rows(subject: Subject, magnitude: float) -> None:
    """Block 2 is scaled when there are more than four rows."""

    def many(graft: Graft) -> str:
        return graft.op("Greater", graft.size("input_ids", 0), graft.number([4], np.int64))

    rewire(subject.model, block(subject.at), scaled_if(many, magnitude))


@fault(node=block, magnitude=0.05)
def only_much_padding(subject: Subject, magnitude: float) -> None:
    """Block 2 is scaled when a row has more padding than a sixth of the context."""
    sixth = subject.dims.context // 6

    def padded(graft: Graft) -> str:
        real = graft.op("ReduceSum", "attention_mask", graft.number([1], np.int64), keepdims=0)
        least = graft.op("ReduceMin", real, graft.number([0], np.int64))
        padding = graft.op("Sub", graft.size("attention_mask", 1), least)
        return graft.op("Greater", padding, graft.number([sixth], np.int64))

    rewire(subject.model, block(subject.at), scaled_if(padded, magnitude))
