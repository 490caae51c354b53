"""An artifact is judged only if it is what the recipe and the artifacts it was made from now say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from artifact import store
from artifact.errors import ArtifactError
from artifact.recipe import Recipe


@dataclass(frozen=True)
class Making:
    """What an artifact must have been made from, and the command that makes it."""

    variant: str
    recipe: str  # digest of the part of the recipe
    parents: Mapping[str, str]
    command: str


def open_made(home: Path, recipe: Recipe, making: Making) -> store.Artifact:
    """Open an artifact; ArtifactError unless it is this recipe's, made from the parents that are there now."""
    artifact = store.open_artifact(home / making.variant, made_by=making.command)
    manifest, hint = artifact.manifest, f"run: {making.command}"
    if (manifest.name, manifest.variant) != (recipe.name, making.variant):
        what = f"it is {manifest.variant} of {manifest.name}, not {making.variant} of {recipe.name}"
        raise ArtifactError(what, where=artifact.path, hint=hint)
    if manifest.recipe != making.recipe:
        raise ArtifactError("made by another recipe than this one is now", where=artifact.path, hint=hint)
    for name, wanted in making.parents.items():
        if manifest.parents.get(name) != wanted:
            raise ArtifactError(f"made from another {name} than the one there now", where=artifact.path, hint=hint)
    return artifact
