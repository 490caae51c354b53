"""The verification text as token ids, and the deterministic pieces of it that checks are run on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import RecipeError
from verify.candidate.session import positions_of
from verify.check import Array


@dataclass(frozen=True)
class Batch:
    """A left-padded batch: ids, mask, positions, each int64 [rows, longest]."""

    ids: Array
    mask: Array
    positions: Array

    def first(self, rows: int | None) -> Batch:
        """Return the first rows, without the padding that only others need; all rows for None."""
        start = int(self.mask[:rows].any(axis=0).argmax())
        return Batch(*(part[:rows, start:] for part in (self.ids, self.mask, self.positions)))


def left_padded(rows: Sequence[Array], pad: int) -> Batch:
    """Rows int64 [length], each of its own length, as a batch padded on the left with the token `pad`."""
    longest = max(map(len, rows))
    ids = np.full((len(rows), longest), pad, dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, own in enumerate(rows):
        ids[row, longest - len(own) :] = own
        mask[row, longest - len(own) :] = 1
    return Batch(ids, mask, positions_of(mask))


def read_text(path: Path) -> str:
    """The verification text; RecipeError when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:  # not UTF-8, or no possible path
        hint = "set verify.text to a UTF-8 text file, relative to the recipe"
        raise RecipeError(f"text cannot be read: {error}", where=path, hint=hint) from error


class Corpus:
    """A text, tokenized whole by the source's tokenizer. Pieces are drawn by a seed that the recipe sets."""

    def __init__(self, path: Path, tokenizer: Any, seed: int) -> None:
        self.text = read_text(path)
        self.path = path
        self.seed = seed
        self.ids: Array = np.asarray(tokenizer(self.text, verbose=False)["input_ids"], dtype=np.int64)

    def piece(self, length: int, place: int) -> Array:
        """`length` consecutive tokens, int64 [length]; `place` 0, 1, 2, ... names different starts.

        Raises RecipeError when the text is too short to hold a piece of that length.
        """
        room = len(self.ids) - length
        if room < 0:
            hint = "name a longer text in verify.text, or shorter pieces in the check's settings"
            raise RecipeError(f"{len(self.ids)} tokens, {length} are needed", where=self.path, hint=hint)
        start = np.random.default_rng([self.seed, length, place]).integers(0, room + 1)
        return self.ids[start : start + length]

    def chunks(self, length: int, count: int) -> Array:
        """`count` different chunks in text order, int64 [count, length], spread over the whole text."""
        if length * count > len(self.ids):
            hint = "name a longer text in verify.text, or fewer chunks in verify.divergence"
            raise RecipeError(f"{len(self.ids)} tokens, {length * count} are needed", where=self.path, hint=hint)
        spare = (len(self.ids) - length * count) // count
        starts = np.arange(count) * (length + spare)
        return np.stack([self.ids[start : start + length] for start in starts])

    def batch(self, lengths: tuple[int, ...], place: int, pad: int) -> Batch:
        """One row per length, padded on the left with the token `pad`, as every loader does for generation."""
        return left_padded([self.piece(length, place + row) for row, length in enumerate(lengths)], pad)
