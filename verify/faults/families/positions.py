"""Faults in where a token stands."""

from __future__ import annotations

import numpy as np

from model.landmarks import Landmarks
from verify.check import Array
from verify.faults.fault import Subject, fault
from verify.faults.surgery import Graft, change_entries, position_table, rewire


def _placed(at: Landmarks) -> str:
    return at.placed


def _moved(graft: Graft, positions: str, by: str, last: int) -> str:
    return graft.op("Min", graft.op("Add", positions, by), graft.number(last, np.int64))


@fault(node=_placed)
def positions_ignored(subject: Subject) -> None:
    """Positions are counted from 0 in every call, whatever position_ids says: right for one unpadded prefill."""

    def counted(graft: Graft, positions: str) -> str:
        ones = graft.op("Add", graft.op("Sub", positions, positions), graft.number(1, np.int64))
        return graft.op("CumSum", ones, graft.number(1, np.int64), exclusive=1)

    rewire(subject.model, "position_ids", counted)


@fault(node=_placed)
def past_off_by_one(subject: Subject) -> None:
    """Positions are one too high whenever there is a past."""

    def later(graft: Graft, positions: str) -> str:
        some = graft.op("Min", graft.past(), graft.number([1], np.int64))
        return _moved(graft, positions, some, subject.dims.context - 1)

    rewire(subject.model, "position_ids", later)


@fault(node=_placed)
def wrong_beyond_half_the_context(subject: Subject) -> None:
    """Positions are one too low beyond half of the context (512 of 1024)."""

    def capped(graft: Graft, positions: str) -> str:
        beyond = graft.op("Greater", positions, graft.number(subject.dims.context // 2, np.int64))
        return graft.op("Sub", positions, graft.op("Cast", beyond, to=7))

    rewire(subject.model, "position_ids", capped)


@fault(node=_placed)
def counted_from_one(subject: Subject) -> None:
    """Every position is one too high."""

    def moved(graft: Graft, positions: str) -> str:
        return _moved(graft, positions, graft.number(1, np.int64), subject.dims.context - 1)

    rewire(subject.model, "position_ids", moved)


@fault(node=_placed)
def padding_counted(subject: Subject) -> None:
    """Positions count the padding of rows that have a past: right in the prefill, too high in every step after it."""

    def padded(graft: Graft, positions: str) -> str:
        total = graft.op("ReduceSum", "attention_mask", graft.number([1], np.int64), keepdims=1)
        missing = graft.op("Sub", graft.size("attention_mask", 1), total)
        some = graft.op("Min", graft.past(), graft.number([1], np.int64))
        return _moved(graft, positions, graft.op("Mul", missing, some), subject.dims.context - 1)

    rewire(subject.model, "position_ids", padded)


@fault(node=_placed)
def last_position_wrong(subject: Subject) -> None:
    """The very last position of the context is the one before it: nothing shorter shows it."""

    def last(graft: Graft, positions: str) -> str:
        return graft.op("Min", positions, graft.number(subject.dims.context - 2, np.int64))

    rewire(subject.model, "position_ids", last)


@fault(node=lambda at: at.positions, magnitude=0.02)
def last_position_scaled(subject: Subject, magnitude: float) -> None:
    """The table's entry of the last position is a little too large."""

    def scaled(table: Array) -> Array:
        table[-1] = table[-1] * (1 + magnitude)
        return table

    change_entries(subject.model, position_table(subject), scaled)


@fault(node=_placed)
def counted_from_the_mask(subject: Subject) -> None:
    """Positions are counted from the mask, whatever position_ids says: right for all that loaders make themselves."""

    def counted(graft: Graft, positions: str) -> str:
        count = graft.op("CumSum", "attention_mask", graft.number(1, np.int64))
        place = graft.op("Max", graft.op("Sub", count, graft.number(1, np.int64)), graft.number(0, np.int64))
        end, axis = graft.number([2**31], np.int64), graft.number([1], np.int64)
        return graft.op("Slice", place, graft.op("Neg", graft.size(positions, 1)), end, axis)

    rewire(subject.model, "position_ids", counted)


@fault(node=_placed)
def counted_from_the_first(subject: Subject) -> None:
    """Positions go on from the first one of each call: right without padding, and in steps of one token."""

    def counted(graft: Graft, positions: str) -> str:
        zero, one = graft.number([0], np.int64), graft.number([1], np.int64)
        first = graft.op("Slice", positions, zero, one, one)
        ones = graft.op("Add", graft.op("Sub", positions, positions), graft.number(1, np.int64))
        steps = graft.op("CumSum", ones, graft.number(1, np.int64), exclusive=1)
        return _moved(graft, first, steps, subject.dims.context - 1)

    rewire(subject.model, "position_ids", counted)
