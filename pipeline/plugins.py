"""Find plug-ins by their files: a scheme, check or architecture has the name of its module or package."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TypeVar

from pipeline.errors import RecipeError
from pipeline.typed import convert, did_you_mean

T = TypeVar("T")
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


def constant(folder: str, name: str, key: str, kind: type[T]) -> T:
    """Return what the module `name`, which must exist, assigns to `key` at its top level, without importing it.

    RecipeError when it assigns nothing, no literal or no `kind`.
    """
    path = ROOT / folder / f"{name}.py"
    path = path if path.is_file() else ROOT / folder / name / "__init__.py"
    hint = f"assign a literal {kind.__name__} to {key} at the module's top level"
    body = ast.parse(path.read_bytes(), path).body
    values = [one.value for one in body if isinstance(one, ast.Assign) and key in map(ast.unparse, one.targets)]
    if not values:
        raise RecipeError(f"{key} is missing", where=path, hint=hint)
    try:
        literal = ast.literal_eval(values[-1])
    except ValueError as error:
        raise RecipeError(f"{key} is no literal", where=path, hint=hint) from error
    value: T = convert(kind, literal, where=f"{path}: {key}")
    return value
