"""Find the checkpoint that a recipe is to be written for: a directory, or a repository of the Hub."""

from __future__ import annotations

import tempfile
from pathlib import Path

from convert import hub
from convert.source import license_of
from model import new_recipe
from model.new_recipe import Described
from pipeline.errors import RecipeError

READ = ["config.json", "README.md"]  # of a repository: no weights


def recipe_of(source: str) -> str:
    """Return the text of a recipe for a checkpoint's directory, or a repository of the Hub (its main branch).

    Raises InputError for a config that cannot be converted, UnavailableError without the Hub, and RecipeError for what
    is neither a directory nor a repository's name.
    """
    return new_recipe.text_of(_found(source))


def _found(source: str) -> Described:
    directory = Path(source)
    if directory.is_dir():
        path = directory.resolve()
        return new_recipe.describe(directory, path.name, path, license_of(directory))
    if source.count("/") != 1 or source.startswith((".", "/")):
        hint = "name a checkpoint's directory, or a repository of the Hub as owner/name"
        raise RecipeError(f"{source!r} is no directory here, and no repository's name", where="--init", hint=hint)
    commit = hub.resolve(source, "main")
    with tempfile.TemporaryDirectory(prefix="convert-") as temporary:
        hub.download(source, commit, READ, Path(temporary))
        return new_recipe.describe(Path(temporary), source, None, license_of(Path(temporary)))
