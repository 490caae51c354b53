"""Faults in the cache: what is read from it, what is written to it, and when."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from model.landmarks import Landmarks
from verify.faults.fault import Subject, fault
from verify.faults.surgery import RIGHT, Graft, exchange, rename, rewire, scaled_if


def _present(number: int, part: str) -> Callable[[Landmarks], str]:
    return lambda at: f"present.{at.number(number)}.{part}"


def _past(subject: Subject, number: int, part: str) -> str:
    return f"past_key_values.{subject.at.number(number)}.{part}"


PRESENT = _present(2, "value")


def _following(graft: Graft) -> str:
    """Return whether there is a past."""
    return graft.op("Greater", graft.past(), graft.number([0], np.int64))


@fault(node=_present(3, "key"))
def past_of_another_layer(subject: Subject) -> None:
    """Two layers read each other's keys of the past."""
    exchange(subject.model, _past(subject, 3, "key"), _past(subject, 4, "key"), made=False)


@fault(node=_present(5, "key"))
def presents_swapped(subject: Subject) -> None:
    """One layer gives its values out as keys and its keys as values."""
    key, value = (_present(5, part)(subject.at) for part in ("key", "value"))
    rename(subject.model, {key: value, value: key})


@fault(node=_present(4, "key"))
def key_of_another_layer(subject: Subject) -> None:
    """One layer gives out the keys of the layer before it: nothing shows until they are used."""
    own, other = (_present(number, "key")(subject.at) for number in (4, 3))
    rename(subject.model, {own: own + RIGHT})
    copy = Graft(subject.model)
    copy.op("Identity", other)
    copy.nodes[0].output[0] = own
    subject.model.graph.node.append(copy.nodes[0])


@fault(node=_present(2, "value"), magnitude=0.05)
def wrong_from_the_third_step(subject: Subject, magnitude: float) -> None:
    """The past is scaled in steps of one token once it holds 11 tokens: the third step after a prompt of 9."""

    def third(graft: Graft) -> str:
        long = graft.op("Greater", graft.past(), graft.number([10], np.int64))
        alone = graft.op("Equal", graft.size("input_ids", 1), graft.number([1], np.int64))
        return graft.op("And", long, alone)

    rewire(subject.model, _past(subject, 2, "value"), scaled_if(third, magnitude))


@fault(node=_present(2, "value"), magnitude=0.05)
def only_a_long_past(subject: Subject, magnitude: float) -> None:
    """The past is scaled once it holds more than half of the context."""
    half = subject.dims.context // 2

    def long(graft: Graft) -> str:
        return graft.op("Greater", graft.past(), graft.number([half], np.int64))

    rewire(subject.model, _past(subject, 2, "value"), scaled_if(long, magnitude))


@fault(node=_present(2, "value"))
def rows_exchanged(subject: Subject) -> None:
    """Of a batch, every row reads the past of the row before it."""

    def rolled(graft: Graft, past: str) -> str:
        zero, one = graft.number([0], np.int64), graft.number([1], np.int64)
        first = graft.op("Slice", past, zero, one, zero)
        rest = graft.op("Slice", past, one, graft.number([2**31], np.int64), zero)
        return graft.op("Concat", rest, first, axis=0)

    rewire(subject.model, _past(subject, 2, "value"), rolled)


@fault(node="causal")
def oldest_entry_forgotten(subject: Subject) -> None:
    """As soon as there is a past, its first entry is not looked at."""

    def later(graft: Graft, right: str) -> str:
        first = graft.op("Equal", "slots", graft.number(0, np.int64))
        hidden = graft.op("And", first, _following(graft))
        return graft.op("And", right, graft.op("Not", hidden))

    rewire(subject.model, "causal", later)


@fault(node=PRESENT, magnitude=0.01)
def written_coarsely(subject: Subject, magnitude: float) -> None:
    """The values that one layer gives out are rounded to a grid of this width."""

    def rounded(graft: Graft, right: str) -> str:
        width = graft.number(magnitude)
        return graft.op("Mul", graft.op("Round", graft.op("Div", right, width)), width)

    rewire(subject.model, PRESENT(subject.at), rounded)


@fault(node=PRESENT, variants=("fp32", "q8", "q4"))
def written_in_float16(subject: Subject) -> None:
    """The values that one layer gives out have been float16."""

    def narrow(graft: Graft, right: str) -> str:
        return graft.op("Cast", graft.op("Cast", right, to=10), to=1)

    rewire(subject.model, PRESENT(subject.at), narrow)


@fault(node=PRESENT)
def newest_entry_lost(subject: Subject) -> None:
    """In steps after a prefill, the last entry of one layer's values repeats the one before it."""

    def repeated(graft: Graft, right: str) -> str:
        total = graft.size("attention_mask", 1)
        step = graft.op("Cast", _following(graft), to=7)
        one, axis = graft.number([1], np.int64), graft.number([2], np.int64)
        last = graft.op("Sub", total, step)
        kept = graft.op("Slice", right, graft.number([0], np.int64), last, axis)
        before = graft.op("Max", graft.op("Sub", last, one), graft.number([0], np.int64))
        extra = graft.op("Slice", right, before, graft.op("Add", before, step), axis)
        return graft.op("Concat", kept, extra, axis=2)

    rewire(subject.model, PRESENT(subject.at), repeated)
