"""Learn what a recipe's source holds now, without downloading it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from convert import hub, source
from pipeline.canonical import file_digest
from pipeline.errors import InputError
from pipeline.recipe.recipe import Recipe

CARD = "README.md"  # of it, only the licence decides anything that is built
WEIGHTS = (".safetensors", ".bin")


@dataclass(frozen=True)
class Origin:
    """A source at one moment. `commit` is None for a directory."""

    commit: str | None
    content: Mapping[str, str]  # file that a stage reads, other than the card -> digest
    license: str | None
    weight_bytes: int


def look_up(recipe: Recipe) -> Origin:
    """Ask the Hub, or hash the recipe's directory.

    Raises UnavailableError when the Hub cannot be reached, InputError when it does not have the source.
    """
    wanted = source.patterns(recipe)
    if recipe.source.path is None:
        found = hub.describe(recipe.source.repository, recipe.source.revision)
        digests, sizes, license_ = found.files, found.bytes, found.license
        commit: str | None = found.commit
    else:
        directory = recipe.path.parent / recipe.source.path
        if not directory.is_dir():
            raise InputError("not a directory", where=directory, hint="name the checkpoint in source.path")
        files = source.files(directory, wanted)
        digests = {name: file_digest(directory / name) for name in files}
        sizes = {name: (directory / name).stat().st_size for name in files}
        license_, commit = source.license_of(directory), None
    content = {name: value for name, value in digests.items() if source.matches(name, wanted) and name != CARD}
    weight_bytes = sum(sizes[name] for name in content if name.endswith(WEIGHTS))
    return Origin(commit, content, license_, weight_bytes)
