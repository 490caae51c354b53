"""Keep what a configuration's fidelity came to, so that a later sitting does not judge the same bytes again.

Fidelity does not depend on the hour, as speed does: equal files, text, libraries and instruction sets give equal
figures.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.results import FileFidelity
from pipeline.canonical import digest, file_digest, read_json
from pipeline.errors import InputError
from pipeline.typed import build
from pipeline.variants import read_with

FILE = "fidelity.json"


class Kept:
    """The figures of earlier sittings in one file; `decides` is all that decides them besides a configuration's own."""

    def __init__(self, directory: Path, decides: Mapping[str, Any]) -> None:
        self._path, self._decides = directory / FILE, decides
        self._found = self._read()

    def key(self, configuration: str, path: Path) -> str:
        """Return what a configuration's figures are kept by: the digest of its files' bytes and of all else."""
        if path.is_file():
            content = {file.name: file_digest(file) for file in read_with(path) if file.is_file()}
        else:
            files = sorted(file for file in path.rglob("*") if file.is_file())
            content = {str(file.relative_to(path)): file_digest(file) for file in files}
        return digest({**self._decides, "configuration": configuration, "files": content})

    def find(self, key: str) -> FileFidelity | None:
        """Return the figures, if an earlier sitting has judged the same."""
        return self._found.get(key)

    def add(self, key: str, found: FileFidelity) -> None:
        """Keep figures; those that are not finite are judged again, for that is a fault to be looked into."""
        if math.isfinite(found.mean_kld):
            self._found[key] = found
            text = json.dumps({name: asdict(entry) for name, entry in self._found.items()}, indent=1, sort_keys=True)
            self._path.write_text(f"{text}\n", encoding="utf-8")

    def _read(self) -> dict[str, FileFidelity]:
        if not self._path.is_file():
            return {}
        table = read_json(self._path)
        hint = "remove the file: everything is judged again then"
        if not isinstance(table, dict):
            raise InputError("not kept figures", where=self._path, hint=hint)
        return {
            key: build(FileFidelity, entry, where=f"{self._path}: {key}", error=InputError)
            for key, entry in table.items()
        }
