"""Hold what a failing check fed: the tokens of a batch, in pieces through the cache. It can be cut smaller."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from pipeline.errors import InputError
from verify.candidate.session import positions_of
from verify.check import Array, Case


@dataclass(frozen=True)
class Input:
    """Ids and mask int64 [rows, length]; `pieces` are the lengths of the calls, in order.

    `places` are the positions, int64 [rows, length], where they are not the loaders' own.
    """

    ids: Array
    mask: Array
    pieces: tuple[int, ...]
    places: Array | None = None

    @property
    def positions(self) -> Array:
        """Position ids int64 [rows, length]: as every loader makes them, if there are no others."""
        return positions_of(self.mask) if self.places is None else self.places

    @property
    def size(self) -> tuple[int, int, int]:
        """Rows, length, calls."""
        return (*self.ids.shape, len(self.pieces))

    @property
    def key(self) -> bytes:
        """Return what two equal inputs share."""
        places = b"" if self.places is None else self.places.tobytes()
        return self.ids.tobytes() + self.mask.tobytes() + places + repr((self.ids.shape, self.pieces)).encode()

    def rows(self, chosen: list[int]) -> Self:
        """Only these rows, without the columns that are padding in all of them."""
        ids, mask = self.ids[chosen], self.mask[chosen]
        places = None if self.places is None else self.places[chosen]
        fewer = replace(self, ids=ids, mask=mask, places=places)
        return fewer.between(int(mask.any(axis=0).argmax()), self.ids.shape[1])

    def between(self, start: int, end: int) -> Self:
        """Only the columns from `start` up to `end`; pieces keep their borders in the text that stays."""
        borders = [0, *itertools.accumulate(self.pieces)]
        kept = sorted({min(max(border, start), end) for border in borders})
        pieces = tuple(b - a for a, b in itertools.pairwise(kept))
        places = None if self.places is None else self.places[:, start:end]
        return replace(self, ids=self.ids[:, start:end], mask=self.mask[:, start:end], pieces=pieces, places=places)

    def with_pieces(self, pieces: tuple[int, ...]) -> Self:
        """The same text in other pieces."""
        return replace(self, pieces=pieces)

    def table(self) -> dict[str, Any]:
        """The input as plain data."""
        own = {} if self.places is None else {"positions": self.places.tolist()}
        return {"ids": self.ids.tolist(), "mask": self.mask.tolist(), "pieces": list(self.pieces), **own}

    @classmethod
    def of(cls, table: Any, where: Path) -> Self:
        """The input that `table` made; InputError when it is none."""
        try:
            ids, mask = (np.asarray(table[name], np.int64) for name in ("ids", "mask"))
            pieces = tuple(int(size) for size in table["pieces"])
            places = np.asarray(table["positions"], np.int64) if "positions" in table else None
            fits = ids.ndim == 2 and ids.shape == mask.shape and sum(pieces) == ids.shape[1] and min(pieces) > 0
            fits = fits and (places is None or places.shape == ids.shape)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"not an input of verify.explain: {error}", where=where, hint=HINT) from error
        if not fits:
            raise InputError("ids, mask, pieces and positions do not fit each other", where=where, hint=HINT)
        return cls(ids, mask, pieces, places)


def fed(case: Case, pieces: tuple[int, ...] = ()) -> Input:
    """Return what a case feeds, in these pieces; none named: in one call."""
    ids = np.atleast_2d(np.asarray(case.arrays["ids"]))
    mask = np.asarray(case.arrays["mask"]) if "mask" in case.arrays else np.ones_like(ids)
    known = case.arrays.get("positions")
    own = None if known is None or np.array_equal(known, positions_of(mask)) else np.asarray(known)
    return Input(ids, mask, pieces or (ids.shape[1],), own)


HINT = "use an explain-input-*.json that `verify --explain` wrote"


def read_table(path: Path) -> Any:
    """A JSON file; InputError when it is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"cannot be read: {error}", where=path, hint=HINT) from error
