"""The content key: equal keys mean that a conversion would read and run the very same things."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from pipeline.canonical import digest, file_digest
from pipeline.plugins import ROOT, code_of
from pipeline.recipe.recipe import Recipe
from reconvert.origin import Origin

STAGES = ("pipeline", "model", "convert", "quantize", "verify", "publish")
CONSTRAINTS = "constraints.txt"  # the environment that the figures were measured in


def content_key(recipe: Recipe, origin: Origin) -> str:
    """SHA-256 (hexadecimal) of what decides the artifacts and the verdict on them; the source's commit is not in it."""
    return digest(
        {
            "source": {"files": origin.content, "license": origin.license},
            "recipe": {
                field.name: repr(getattr(recipe, field.name)) for field in fields(recipe) if field.name != "path"
            },
            "texts": {
                "verify": recipe.verdict_digest,
                **{name: recipe.variant_digest(name) for name in recipe.variants},
            },
            "constraints": file_digest(ROOT / CONSTRAINTS),
            "code": converter_digest(),
        }
    )


def converter_digest() -> str:
    """Digest of the stages' code, and of what else `publish` writes a repository with (the page's scripts)."""
    code = code_of(*STAGES)
    return digest({"code": code, "templates": {name: file_digest(ROOT / name) for name in _others(ROOT / "publish")}})


def _others(folder: Path) -> list[str]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc"))
    return sorted(path.relative_to(ROOT).as_posix() for path in files if "node_modules" not in path.parts)
