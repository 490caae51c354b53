"""Find plug-ins by their files: a scheme, check or architecture has the name of its module or package."""

from __future__ import annotations

import ast
import functools
import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from pipeline.canonical import code_files, digest
from pipeline.errors import RecipeError
from pipeline.typed import convert, did_you_mean

T = TypeVar("T")
ROOT = Path(__file__).resolve().parent.parent
ARCHITECTURES = "model/architectures"
# Environment variables that name further folders with plug-ins of a kind, as PATH names folders with programs.
ELSEWHERE = {ARCHITECTURES: "PIPELINE_ARCHITECTURES"}


def names(folder: str) -> tuple[str, ...]:
    """Names of the modules and packages in a folder such as "quantize/schemes", sorted, without importing any."""
    places = [ROOT / folder, *elsewhere(folder)]
    modules = [path.stem for place in places for path in place.glob("*.py") if path.stem != "__init__"]
    packages = [path.parent.name for place in places for path in place.glob("*/__init__.py")]
    found = sorted([*modules, *packages])
    twice = next((name for name, other in itertools.pairwise(found) if name == other), None)
    if twice is not None:
        raise RecipeError(
            f"{twice} exists twice",
            where=folder,
            hint=f"rename one of them, or take its folder out of {ELSEWHERE.get(folder, folder)}",
        )
    return tuple(found)


def elsewhere(folder: str) -> tuple[Path, ...]:
    """Return the folders outside the project that hold more of a folder's plug-ins; RecipeError for one that is none.

    Paths are absolute, because the programs that a stage starts run elsewhere.
    """
    variable = ELSEWHERE.get(folder, "")
    paths = tuple(Path(entry) for entry in os.environ.get(variable, "").split(os.pathsep) if entry)
    for path in paths:
        if not path.is_absolute() or not path.is_dir():
            raise RecipeError(f"{path} is no folder", where=variable, hint="name folders by their absolute paths")
    return paths


def code_of(*packages: str) -> str:
    """Digest of the code of these packages and of all that stages share, plug-ins outside the project included."""
    own = dict.fromkeys([*packages, "model", "pipeline"])
    outside = [path for folder in ELSEWHERE for path in elsewhere(folder)]
    return digest({**_own_code(*own), **code_files(*outside)})


@functools.cache
def _own_code(*packages: str) -> Mapping[str, str]:
    """Return the digests of this project's files of code, read once: what runs stays as it was when it was loaded."""
    return code_files(*(ROOT / name for name in packages))


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
    values = [
        one.value
        for one in body
        if (isinstance(one, ast.Assign) and key in map(ast.unparse, one.targets))
        or (isinstance(one, ast.AnnAssign) and ast.unparse(one.target) == key)
    ]
    if not values or values[-1] is None:
        raise RecipeError(f"{key} is missing", where=path, hint=hint)
    try:
        literal = ast.literal_eval(values[-1])
    except ValueError as error:
        raise RecipeError(f"{key} is no literal", where=path, hint=hint) from error
    value: T = convert(kind, literal, where=f"{path}: {key}")
    return value
