"""The manifest: what an artifact is, what it was made from, and the digest of every file in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any

from pipeline.canonical import digest, parse_json
from pipeline.errors import ArtifactError, InputError
from pipeline.typed import build

FILE_NAME = "manifest.json"
SCHEMA = 1
AGAIN = "remove this directory, and run the stage that makes it (python -m convert, quantize or verify)"
WARNINGS = "warnings"  # among the facts of a model: what convert warned of


@dataclass(frozen=True)
class FileEntry:
    """One file of an artifact: path relative to it with forward slashes, size in bytes, SHA-256."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """An artifact's identity. It holds no time and no absolute path, so that equal content has an equal digest."""

    kind: str  # "source", "model" or "report"
    name: str  # the recipe's name
    variant: str  # "source", "fp32", "q8", ..., "report"
    source: Mapping[str, str | None]  # repository, commit (None for a local directory), license
    recipe: str  # digest of the part of the recipe that made this artifact
    code: str  # digest of the stage's own code
    parents: Mapping[str, str]  # artifact name -> digest of its manifest
    tools: Mapping[str, str]  # library -> version
    facts: Mapping[str, Any] = field(default_factory=dict)  # dimensions, signature, verdict: what readers need
    schema: int = SCHEMA
    files: tuple[FileEntry, ...] = ()

    @property
    def digest(self) -> str:
        """The artifact's identity: digest of the canonical manifest."""
        return digest(asdict(self))

    def with_facts(self, facts: Mapping[str, Any]) -> Manifest:
        """Return the manifest with these facts besides."""
        return replace(self, facts={**self.facts, **facts})

    def same_making(self, other: Manifest) -> bool:
        """Return whether both have the same inputs, recipe, code and tools (the files are the result, not compared)."""
        return digest(asdict(replace(self, files=()))) == digest(asdict(replace(other, files=())))


def parse_manifest(content: bytes, where: object) -> Manifest:
    """Read a manifest's bytes. ArtifactError when it is not one of this schema."""
    try:
        table = parse_json(content, where)
    except InputError as error:
        raise ArtifactError(error.what, where=where, hint=AGAIN) from error
    if not isinstance(table, dict) or table.get("schema") != SCHEMA:
        raise ArtifactError(f"not a manifest of schema {SCHEMA}", where=where, hint=f"{AGAIN} with this version")
    manifest = build(Manifest, table, where=str(where), error=ArtifactError)
    for entry in manifest.files:
        path = PurePosixPath(entry.path)
        if path.is_absolute() or ".." in path.parts or str(path) != entry.path or entry.path in ("", ".", FILE_NAME):
            raise ArtifactError(f"unsafe file path {entry.path!r}", where=where, hint=AGAIN)
    paths = [entry.path for entry in manifest.files]
    if paths != sorted(set(paths)):
        raise ArtifactError("file list is not sorted and unique", where=where, hint=AGAIN)
    return manifest
