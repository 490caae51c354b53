"""Faults that show only where a certain token stands: one that the text does not hold, or the one that ends it."""

from __future__ import annotations

import numpy as np

from verify.faults.families.conditions import block
from verify.faults.fault import Subject, fault
from verify.faults.surgery import Change, Graft, end_of, read_entry_norms, rewire


def _instead(token: int, other: int) -> Change:
    """Ids in which one token is another."""

    def change(graft: Graft, ids: str) -> str:
        here = graft.op("Equal", ids, graft.number(token, np.int64))
        return graft.op("Where", here, graft.number(other, np.int64), ids)

    return change


@fault(node=lambda at: at.embedding)
def rare_token_read_as_another(subject: Subject) -> None:
    """A token that the text never holds is replaced by another before the table is read."""
    rewire(subject.model, "input_ids", _instead(*subject.unseen[:2]))


@fault(node=lambda at: at.embedding)
def end_token_read_as_another(subject: Subject) -> None:
    """The end token is replaced by another before the table is read: it matters only where documents are joined."""
    rewire(subject.model, "input_ids", _instead(end_of(subject), subject.unseen[0]))


@fault(node=block)
def not_a_number_after_an_outlier(subject: Subject) -> None:
    """Block 2 gives NaN where the token with the largest entry stands: what an overflow leaves first."""
    largest = int(read_entry_norms(subject).argmax())

    def broken(graft: Graft, right: str) -> str:
        here = graft.op("Equal", "input_ids", graft.number(largest, np.int64))
        root = graft.op("Sqrt", graft.choose(here, -1, 1))
        return graft.op("Mul", right, graft.op("Unsqueeze", root, graft.number([2], np.int64)))

    rewire(subject.model, block(subject.at), broken)
