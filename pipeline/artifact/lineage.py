"""Opening what other stages built: only if it is this recipe's, made from the parents that are there now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.artifact.manifest import WARNINGS
from pipeline.artifact.store import Artifact, open_artifact
from pipeline.command import invocation
from pipeline.errors import ArtifactError
from pipeline.recipe.recipe import Recipe


@dataclass(frozen=True)
class Making:
    """State what an artifact must have been made from, and the command that makes it."""

    variant: str
    recipe: str  # digest of the part of the recipe
    parents: Mapping[str, str]
    command: str


def open_source(home: Path, recipe: Recipe) -> Artifact:
    """build/<name>/source."""
    return open_made(
        home, recipe, Making("source", recipe.source_digest, {}, invocation("convert", recipe.path, home.parent))
    )


def open_variant(home: Path, recipe: Recipe, variant: str, parent: Artifact) -> Artifact:
    """build/<name>/<variant>, which was made from `parent`: the source for fp32, fp32 for any other."""
    if variant == "fp32":
        making = Making(
            variant, recipe.model_digest, {"source": parent.digest}, invocation("convert", recipe.path, home.parent)
        )
    else:
        wanted, parents = recipe.variant_digest(variant), {"fp32": parent.digest}
        making = Making(variant, wanted, parents, invocation("quantize", recipe.path, home.parent))
    return open_made(home, recipe, making)


def open_built(recipe: Recipe, chosen: Sequence[str] | None, home: Path) -> tuple[Artifact, dict[str, Artifact]]:
    """The source, and the variants that are built, or those chosen, by name; ArtifactError as `open_made` says."""
    source = open_source(home, recipe)
    base = open_variant(home, recipe, "fp32", source)
    artifacts = {"fp32": base} if not chosen or "fp32" in chosen else {}
    for variant in recipe.variants:
        if variant in chosen if chosen else (home / variant).is_dir():
            artifacts[variant] = open_variant(home, recipe, variant, base)
    return source, artifacts


def warnings(artifacts: Mapping[str, Artifact]) -> list[str]:
    """Return what convert warned of, which the facts of fp32, and of all that is made from it, repeat."""
    found = (artifact.manifest.facts.get(WARNINGS, []) for artifact in artifacts.values())
    return [f"convert warned: {text}" for text in dict.fromkeys(text for texts in found for text in texts)]


def open_made(home: Path, recipe: Recipe, making: Making) -> Artifact:
    """Open an artifact; ArtifactError unless it is this recipe's, made from the parents that are there now."""
    artifact = open_artifact(home / making.variant, made_by=making.command)
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
