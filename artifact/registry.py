"""What exists is what has a file: a scheme, check or architecture has the name of its module or package."""

from __future__ import annotations

from pathlib import Path

from artifact.errors import RecipeError
from artifact.typed import did_you_mean

ROOT = Path(__file__).resolve().parent.parent


def names(folder: str) -> tuple[str, ...]:
    """Names of the modules and packages in a folder such as "quantize/schemes", sorted, without importing any."""
    modules = [path.stem for path in (ROOT / folder).glob("*.py") if path.stem != "__init__"]
    packages = [path.parent.name for path in (ROOT / folder).glob("*/__init__.py")]
    return tuple(sorted([*modules, *packages]))


def require(folder: str, name: str, *, where: str) -> str:
    """`name` if the folder has a module of that name; RecipeError listing the known ones otherwise."""
    if name not in names(folder):
        raise RecipeError(f"{name!r} does not exist", where=where, hint=did_you_mean(name, names(folder)))
    return name
