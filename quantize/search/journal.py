"""Measurements that outlive the run that made them: one JSON line each, appended as soon as it is known."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.canonical import canonical_json, digest
from pipeline.errors import InputError


class Journal:
    """Numbers by what was measured. What decides a number must be in its key, so nothing is ever stale.

    Variants that are quantized at the same time share one file: every reading and writing holds its lock.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, dict[str, float]] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._locked() as stream:
            self._take(stream)

    def get(self, key: Mapping[str, Any]) -> dict[str, float] | None:
        """The numbers of an earlier measurement, or None."""
        return self._known.get(digest(key))

    def put(self, key: Mapping[str, Any], numbers: dict[str, float]) -> None:
        """Append a measurement; it is on disk when this returns."""
        name = digest(key)
        with self._locked() as stream:
            self._take(stream)  # another writer may have been killed in the middle of its last line
            stream.write(canonical_json({"key": name, "numbers": numbers, "what": key}) + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        self._known[name] = numbers

    @contextlib.contextmanager
    def _locked(self) -> Iterator[BinaryIO]:
        with self.path.open("a+b") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)  # until it is closed
            yield stream

    def _take(self, stream: BinaryIO) -> None:
        """Read every line. One that a killed run left bad at the end is cut off; InputError for one before it."""
        stream.seek(0)
        content = stream.read()
        lines = content.splitlines(keepends=True)
        kept = 0
        for i, line in enumerate(lines):
            entry = _parse(line)
            if entry is None and i < len(lines) - 1:
                hint = "remove the file: its measurements are then made again"
                raise InputError(f"line {i + 1} is no measurement", where=self.path, hint=hint)
            if entry is not None:
                self._known[entry[0]] = entry[1]
                kept += len(line)
        if kept < len(content):
            stream.truncate(kept)


def _parse(line: bytes) -> tuple[str, dict[str, float]] | None:
    """Key and numbers; None for a line that is cut short, even where what is left of it is JSON."""
    if not line.endswith(b"\n"):
        return None
    try:
        entry = json.loads(line)
        return str(entry["key"]), {str(name): float(value) for name, value in entry["numbers"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
