"""Keep on disk what a model made of a unit's items, as soon as it is known: an interrupted run continues."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.canonical import canonical_json, digest, read_json
from pipeline.errors import InputError
from pipeline.typed import build


@dataclass(frozen=True)
class ItemScore:
    """One item: the log-likelihood (nats) of every choice, whether the likeliest is right, and the task's score."""

    logliks: tuple[float, ...]
    right: bool
    score: float  # 0 or 1; for MC2 the share of probability on true answers

    @property
    def chosen(self) -> int:
        """The likeliest choice, the first of equals."""
        return max(range(len(self.logliks)), key=lambda place: self.logliks[place])


@dataclass(frozen=True)
class Scores:
    """A model's items of one unit, in the data's order, and the seconds it took."""

    items: tuple[ItemScore, ...]
    seconds: float


class ScoreStore:
    """Scores by what decides them: one file each, named by the digest of its key, so nothing is ever stale."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def get(self, key: Mapping[str, Any]) -> Scores | None:
        """The scores of an earlier run, or None; InputError for a file that is damaged."""
        path = self._path(key)
        if not path.is_file():
            return None
        table = read_json(path)
        hint = "remove the file: it is then made again"
        if not isinstance(table, dict) or table.get("key") != key:
            raise InputError("holds scores of something else than its name says", where=path, hint=hint)
        return build(Scores, table["scores"], where=str(path), error=InputError)

    def put(self, key: Mapping[str, Any], scores: Scores) -> None:
        """Keep scores: aside, to the disk, then renamed into place."""
        path = self._path(key)
        aside = path.with_suffix(".tmp")
        with aside.open("wb") as stream:
            stream.write(canonical_json({"key": key, "scores": asdict(scores)}) + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(path)

    def _path(self, key: Mapping[str, Any]) -> Path:
        return self._directory / f"{digest(key)}.json"


def right_choice(sample: Mapping[str, Any], logliks: Sequence[float]) -> bool:
    """Return whether the likeliest choice is right, from the harness's record of an item."""
    chosen = max(range(len(logliks)), key=lambda place: logliks[place])
    labels = (sample["doc"].get("mc2_targets") or {}).get("labels")
    return bool(labels[chosen]) if labels is not None else bool(sample["acc"])
