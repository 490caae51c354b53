"""Inputs that no left-padded text is: complete for every size of context, and within it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from verify.candidate.session import positions_of
from verify.reference import padding_cases
from verify.reference.corpus import Batch, Corpus

VOCABULARY = 40


class Text(Corpus):
    """A corpus without a file, of which every piece begins at the start."""

    def __init__(self) -> None:
        """Nothing to read."""

    def piece(self, length: int, place: int) -> np.ndarray:
        return (np.arange(length) + place) % VOCABULARY

    def batch(self, lengths: tuple[int, ...], place: int, pad: int) -> Batch:
        longest = max(lengths)
        mask = np.array([[0] * (longest - n) + [1] * n for n in lengths], np.int64)
        return Batch(np.where(mask == 1, self.piece(longest, place), pad), mask, positions_of(mask))


def reference(context: int, end: int | None) -> Any:
    entries = np.arange(VOCABULARY)  # each token's is larger than the one before
    return SimpleNamespace(
        dimensions=SimpleNamespace(context=context), context=context, end=end, by_entry=lambda: entries
    )


@given(st.integers(padding_cases.LEAST, 3000), st.sampled_from([None, VOCABULARY - 1]))
def test_the_batch_holds_what_it_says(context: int, end: int | None) -> None:
    made = padding_cases.batch(reference(context, end), Text())
    mask, positions = made.mask, made.positions
    assert made.ids.shape == mask.shape == positions.shape
    assert mask.any(axis=1).all()
    assert (mask[0, 0], mask[0, -1]) == (1, 0), "padded on the right"
    assert (np.diff(mask[1]) != 0).sum() == 2, "a gap"
    assert positions[mask == 1].min() >= 0
    assert positions.max() < context
    if context > 2 * padding_cases.LENGTH:
        own = positions_of(mask)
        assert [bool((positions[row] != own[row]).any()) for row in range(6)] == [
            False,
            False,
            True,
            True,
            False,
            False,
        ]
    assert end is None or end in made.ids[4][mask[4] == 1], "the end token as a token"
    assert {0, VOCABULARY - 1} <= {*made.ids[5].tolist()}, "the smallest and the largest entry"


@given(st.integers(padding_cases.LEAST, 3000))
def test_a_conversation_fits_the_context_and_has_padding_in_its_midst(context: int) -> None:
    made, pieces = padding_cases.conversation(reference(context, 0), Text())
    assert made.ids.shape[1] == sum(pieces) <= context
    assert np.array_equal(made.positions, positions_of(made.mask))
    assert made.mask[:, -1].all()
    if context >= 64:
        starts = np.diff(made.mask[0]) != 0
        assert starts.any(), "a gap after the first turn"
        assert made.mask[1, 0] == 0, "padding before the first turn"
        assert pieces[0] >= context // 4
        assert max(pieces[1:]) > 1
