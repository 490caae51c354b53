"""The published tree: what lies where in the repository, and what its texts (card, provenance) are written from."""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.artifact.manifest import FILE_NAME as MANIFEST
from pipeline.artifact.manifest import FileEntry, Manifest
from pipeline.errors import ArtifactError
from pipeline.recipe.recipe import Recipe
from pipeline.variants import FILES, made_files

CARD = "README.md"
PROVENANCE = "provenance.json"
REPORT = "report"  # folder: report.json, report.md, and what else the report's artifact holds
DOCUMENT = f"{REPORT}/report.json"
SIGNATURE = "model.sig"  # signs every other file, manifest.json included, and so cannot be in the manifest


@dataclass(frozen=True)
class Publishable:
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
    report: Mapping[str, Any]  # verify/report/report.schema.json
    files: tuple[FileEntry, ...]  # path in the repository, size in bytes, SHA-256; sorted by path

    @property
    def source_directory(self) -> Path:
        """The source checkpoint, with its own card, README.md."""
        return self.home / "source"

    def source_file(self, name: str) -> bytes | None:
        """A file of the source, None if it has none; ArtifactError if it is not the one that its manifest lists."""
        for entry in self.source.files:
            if entry.path == name:
                content = (self.source_directory / name).read_bytes()
                if hashlib.sha256(content).hexdigest() != entry.sha256:
                    raise changed(self.source_directory / name)
                return content
        return None


def changed(where: object) -> ArtifactError:
    """The error about a file that is not the one which was looked at before."""
    hint = "run it again, and let nothing write there meanwhile"
    return ArtifactError("the file changed while it was published", where=where, hint=hint)


# Every file that a published repository may hold. What is in the repository already and not in this list was put
# there by somebody else, and is never deleted.
LAYOUT = (
    CARD,
    PROVENANCE,
    SIGNATURE,
    MANIFEST,
    f"{REPORT}/report.*",
    *(file for variant in FILES for file in made_files(variant)),
    "LICENSE*",
    "added_tokens.json",
    "chat_template.jinja",
    "config.json",
    "genai_config.json",
    "generation_config.json",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "index.html",  # the page that runs the model in the reader's browser, and what it is made of
    "page.json",
    "assets/*.css",
    "assets/*.js",
)


def known(path: str) -> bool:
    """Return whether a path belongs to the layout of a published repository."""
    return any(
        path.count("/") == pattern.count("/") and fnmatch.fnmatchcase(path, pattern)  # a * is no folder
        for pattern in LAYOUT
    )
