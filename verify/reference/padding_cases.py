"""Make inputs of callers beyond left-padded text: padding on the right, gaps, other positions, end and rare tokens.

Tokenizers pad on the right unless they are told otherwise, documents are joined by the end token, and a batch that goes
on after its first answers has padding in the middle. The reference answers all of that; so must a converted graph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from verify.candidate.session import positions_of
from verify.check import Array
from verify.reference.corpus import Batch, Corpus

if TYPE_CHECKING:  # torch takes seconds to load
    from verify.reference.model import Reference

LENGTH = 12  # tokens of a row
PLACE = 500  # of the corpus' pieces, away from those of the other cases
ANSWER = 2  # tokens that are decoded one by one after each turn of a conversation
LEAST = 8  # positions that a conversation needs at least


def batch(reference: Reference, corpus: Corpus) -> Batch:
    """Six rows: padded on the right, with a gap, moved, with a jump, documents and their ends, rare tokens.

    Beyond a recipe's cap lies the moved row alone, at the model's last positions. A jump of thousands of positions is
    nothing that a model has learned: of one of 8,180, SmolLM2 makes ten times as much of every rounding.
    """
    length, end = min(LENGTH, reference.context), reference.end
    ids = np.stack([corpus.piece(length, PLACE + row) for row in range(6)])
    mask = np.ones_like(ids)
    mask[0, (length + 1) // 2 :] = 0
    mask[1, length // 3 : length // 2] = 0
    positions = positions_of(mask)
    spare, beyond = reference.context - length, reference.dimensions.context - reference.context
    positions[2] += spare + beyond if beyond else spare // 2
    positions[3, length // 2 :] += spare
    if end is not None:
        ids[4, [0, length // 2]] = end
        ids = np.where(mask == 1, ids, end)
    ids[5] = rare(reference, length)
    return Batch(ids, mask, positions)


def conversation(reference: Reference, corpus: Corpus) -> tuple[Batch, list[int]]:
    """Two rows of two turns each, every turn padded on the left by itself; and the sizes of the calls.

    The first turn is a quarter of the context in one row and short in the other, so there is much padding, and more
    later in the midst of the other row; what follows has a long past, several tokens at a time and one by one.
    """
    context, pad = reference.context, reference.end or 0
    first, second = max(context // 4, 1), max(context // 32, 1)
    turns = [
        corpus.batch((first, max(first // 16, 1)), PLACE + 10, pad),
        corpus.batch((ANSWER, ANSWER), PLACE + 20, pad),
        corpus.batch((max(second // 4, 1), second), PLACE + 30, pad),
        corpus.batch((ANSWER, ANSWER), PLACE + 40, pad),
    ]
    mask = np.concatenate([turn.mask for turn in turns], axis=1)
    ids = np.concatenate([turn.ids for turn in turns], axis=1)
    return Batch(ids, mask, positions_of(mask)), [first, *[1] * ANSWER, second, *[1] * ANSWER]


def rare(reference: Reference, count: int) -> Array:
    """The tokens of the smallest and the largest entries in the table, int64 [count]: where numbers overflow first."""
    order = reference.by_entry()
    return np.concatenate([order[: count // 2], order[len(order) - (count - count // 2) :]])
