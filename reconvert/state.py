"""Keep what is known of a recipe between two runs: data on disk, replaced whole, and how it changes."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from pipeline.canonical import read_json
from pipeline.errors import ArtifactError, InputError
from pipeline.typed import build

SCHEMA = 1
DIGEST = re.compile(r"[0-9a-f]{64}")
UNFINISHED = "the run did not come to its end"
Way = Literal["push", "pr"]


@dataclass(frozen=True)
class Done:
    """The last conversion that verification passed: its key, the commit last seen with it, the report's digest."""

    key: str
    commit: str | None
    report: str


@dataclass(frozen=True)
class Published:
    """The last publication: its key, and whether it was pushed or proposed."""

    key: str
    way: Way


@dataclass(frozen=True)
class Failing:
    """A key that has failed `count` times in a row, and how it did the last time."""

    key: str
    count: int
    stage: str | None = None
    reason: str = UNFINISHED
    log: str | None = None  # relative to the recipe's folder in the build directory


@dataclass(frozen=True)
class State:
    """Everything that a run leaves for the next one. Its file's schema is state.schema.json."""

    schema: int = SCHEMA
    done: Done | None = None
    published: Published | None = None
    failing: Failing | None = None

    def begun(self, key: str) -> State:
        """The state while a key is tried: counted at once, for it may take the whole machine down, again and again."""
        known = self.failing
        count = known.count if known is not None and known.key == key else 0
        return replace(self, failing=Failing(key, count + 1))

    def failed(self, stage: str, reason: str, log: str) -> State:
        """The state when the key that was begun has failed in a stage. ValueError when none was begun."""
        if self.failing is None:
            raise ValueError("no key was begun")
        return replace(self, failing=replace(self.failing, stage=stage, reason=reason, log=log))

    def finished(self, done: Done) -> State:
        """The state when verification has passed."""
        return replace(self, done=done, failing=None)

    def quarantined(self, key: str, limit: int) -> bool:
        """Return whether the key has failed so often that it is not tried again."""
        return self.failing is not None and self.failing.key == key and self.failing.count >= limit

    def is_published(self, key: str, way: Way) -> bool:
        """Return whether the key has been published in this way, or by push, which counts for a pull request."""
        return self.published is not None and self.published.key == key and self.published.way in ("push", way)


def read_state(path: Path) -> State:
    """The state in a file, or the empty one where there is none; ArtifactError for a file of another form."""
    hint = "remove the file: what is built is looked at again, and made again only where it must be"
    if not path.exists():
        return State()
    try:
        table = read_json(path)
    except InputError as error:
        raise ArtifactError(error.what, where=path, hint=hint) from error
    if not isinstance(table, dict) or table.get("schema") != SCHEMA:
        raise ArtifactError(f"not a state of schema {SCHEMA}", where=path, hint=hint)
    state = build(State, table, where=str(path), error=ArtifactError)
    keys = [known.key for known in (state.done, state.published, state.failing) if known is not None]
    if not all(map(DIGEST.fullmatch, keys)) or (state.failing is not None and state.failing.count < 1):
        raise ArtifactError("not a state that a run has left", where=path, hint=hint)
    return state


def write_state(path: Path, state: State) -> None:
    """Replace the file: after a crash it holds the old state or the new one."""
    write_whole(path, json.dumps(asdict(state), indent=2) + "\n")


def write_whole(path: Path, text: str) -> None:
    """Write a file so that it is never seen half-written, on disk (fsync) when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.new")
    with aside.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    aside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
