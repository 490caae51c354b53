"""Where a published tree comes from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from artifact.canonical import file_digest
from artifact.errors import ArtifactError
from publish.tree import Published


def statement(about: Published) -> dict[str, Any]:
    """An in-toto statement whose subjects are the files of the tree."""
    subject = [{"name": entry.path, "digest": {"sha256": entry.sha256}} for entry in about.files]
    return {"_type": "https://in-toto.io/Statement/v1", "subject": subject}


def check(found: Mapping[str, Any], tree: Path) -> None:
    """ArtifactError unless every subject of the statement is in the tree with that digest."""
    for subject in found["subject"]:
        path = tree / subject["name"]
        if not path.is_file() or file_digest(path) != subject["digest"]["sha256"]:
            raise ArtifactError(f"provenance does not hold for {subject['name']}", where=tree, hint="publish again")
