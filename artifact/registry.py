"""What exists is what has a file: a scheme, check or architecture is named by its module's file name."""

from __future__ import annotations

from pathlib import Path

from artifact.errors import RecipeError
from artifact.typed import did_you_mean

ROOT = Path(__file__).resolve().parent.parent


def names(folder: str) -> tuple[str, ...]:
    """Names of the modules in a folder such as "quantize/schemes", sorted, without importing any."""
    return tuple(sorted(path.stem for path in (ROOT / folder).glob("*.py") if path.stem != "__init__"))


def require(folder: str, name: str, *, where: str) -> str:
    """`name` if the folder has a module of that name; RecipeError listing the known ones otherwise."""
    if name not in names(folder):
        raise RecipeError(f"{name!r} does not exist", where=where, hint=did_you_mean(name, names(folder)))
    return name
