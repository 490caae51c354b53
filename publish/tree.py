"""The published tree: what lies where in the repository, and what its texts (card, provenance) are written from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from artifact.manifest import FileEntry, Manifest
from artifact.recipe import Recipe

CARD = "README.md"
PROVENANCE = "provenance.json"
REPORT = "report"  # folder: report.json, report.md, and what else the report's artifact holds
SIGNATURE = "model.sig"  # signs every other file, manifest.json included, and so cannot be in the manifest


@dataclass(frozen=True)
class Published:
    """One model as it will be published. Card and provenance must depend on nothing else: equal input, equal bytes.

    `files` are those in the tree so far: for the card, all but README.md, provenance.json and manifest.json; for the
    provenance statement, all but provenance.json and manifest.json.
    """

    recipe: Recipe
    repository: str  # OWNER/NAME on the Hub
    home: Path  # build/<name>, with the artifacts source, fp32, ..., report (and benchmarks, where they were run)
    source: Manifest
    variants: Mapping[str, Manifest]  # by name, fp32 first
    report_manifest: Manifest
    report: Mapping[str, Any]  # verify/report.schema.json
    files: tuple[FileEntry, ...]  # path in the repository, size in bytes, SHA-256; sorted by path

    @property
    def source_directory(self) -> Path:
        """The source checkpoint, with its own card, README.md."""
        return self.home / "source"
