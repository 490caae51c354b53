"""What a failing check fed: the tokens of a left-padded batch, in pieces through the cache. It can be cut smaller."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from artifact.errors import InputError
from verify.candidate import positions_of
from verify.check import Array


@dataclass(frozen=True)
class Input:
    """Ids and mask int64 [rows, length], padding on the left; `pieces` are the lengths of the calls, in order."""

    ids: Array
    mask: Array
    pieces: tuple[int, ...]

    @property
    def positions(self) -> Array:
        """Position ids int64 [rows, length], as every loader makes them."""
        return positions_of(self.mask)

    @property
    def size(self) -> tuple[int, int, int]:
        """Rows, length, calls."""
        return (*self.ids.shape, len(self.pieces))

    @property
    def key(self) -> bytes:
        """What two equal inputs share."""
        return self.ids.tobytes() + self.mask.tobytes() + repr((self.ids.shape, self.pieces)).encode()

    def rows(self, chosen: list[int]) -> Self:
        """Only these rows, without the columns that are padding in all of them."""
        ids, mask = self.ids[chosen], self.mask[chosen]
        return replace(self, ids=ids, mask=mask).between(int(mask.any(axis=0).argmax()), self.ids.shape[1])

    def between(self, start: int, end: int) -> Self:
        """Only the columns from `start` up to `end`; pieces keep their borders in the text that stays."""
        borders = [0, *itertools.accumulate(self.pieces)]
        kept = sorted({min(max(border, start), end) for border in borders})
        pieces = tuple(b - a for a, b in itertools.pairwise(kept))
        return replace(self, ids=self.ids[:, start:end], mask=self.mask[:, start:end], pieces=pieces)

    def with_pieces(self, pieces: tuple[int, ...]) -> Self:
        """The same text in other pieces."""
        return replace(self, pieces=pieces)

    def table(self) -> dict[str, Any]:
        """The input as plain data."""
        return {"ids": self.ids.tolist(), "mask": self.mask.tolist(), "pieces": list(self.pieces)}

    @classmethod
    def of(cls, table: Any, where: Path) -> Self:
        """The input that `table` made; InputError when it is none."""
        try:
            ids, mask = (np.asarray(table[name], np.int64) for name in ("ids", "mask"))
            pieces = tuple(int(size) for size in table["pieces"])
            fits = ids.ndim == 2 and ids.shape == mask.shape and sum(pieces) == ids.shape[1] and min(pieces) > 0
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"not an input of verify.explain: {error}", where=where, hint=HINT) from error
        if not fits:
            raise InputError("ids, mask and pieces do not fit each other", where=where, hint=HINT)
        return cls(ids, mask, pieces)


HINT = "use an explain-input-*.json that `verify --explain` wrote"


def read_table(path: Path) -> Any:
    """A JSON file; InputError when it is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"cannot be read: {error}", where=path, hint=HINT) from error
