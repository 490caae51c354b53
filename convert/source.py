"""Resolve the source: from the Hub at a commit, or from a directory, into the artifact build/<name>/source."""

from __future__ import annotations

import contextlib
import fnmatch
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from convert import hub, pickled, stored
from model import architecture, checkpoint, tokenizer
from model.contract import Dimensions
from pipeline.artifact import store
from pipeline.artifact.manifest import FileEntry, Manifest
from pipeline.canonical import file_digest
from pipeline.command import say
from pipeline.errors import InputError, PipelineError, RecipeError
from pipeline.plugins import code_of
from pipeline.recipe.recipe import Recipe

PATTERNS = [
    "config.json",
    "generation_config.json",
    "*.safetensors",
    "model.safetensors.index.json",
    *tokenizer.PATTERNS,
    "README.md",
    "LICENSE*",
]
PICKLES = [checkpoint.PICKLE, checkpoint.PICKLED_INDEX, "pytorch_model-*.bin"]


def resolve(recipe: Recipe, directory: Path | None, commit: str | None, target: Path) -> store.Artifact:
    """The source artifact at `target`, made again only if the source, the recipe or this code has changed.

    `directory` overrides where the recipe says the source is, `commit` what its revision names. InputError for a
    source that is broken or differs from what the recipe expects, UnavailableError when the Hub cannot be reached.
    """
    if directory is None and recipe.source.path is not None:
        directory = recipe.path.parent / recipe.source.path
    if directory is None:
        return _from_hub(recipe, commit, patterns(recipe), target)
    if commit is not None:
        hint = "leave --commit out, or name a source on the Hub"
        raise RecipeError("a directory has no commits", where="--commit", hint=hint)
    return _from_directory(recipe, directory, patterns(recipe), target)


@contextlib.contextmanager
def named(copy: Path, place: str) -> Iterator[None]:
    """Let what is refused about the copy of a source name the source itself, where its owner can mend it."""
    try:
        yield
    except PipelineError as error:
        inside = error.where.removeprefix(str(copy))
        if inside != error.where:
            error.where = f"{place}{inside}"
        raise


def place_of(recipe: Recipe, directory: Path | None, commit: str | None) -> str:
    """Return what a user knows the source by: its directory, or the repository and the commit."""
    own = directory or (recipe.source.path and recipe.path.parent / recipe.source.path)
    return str(own) if own else f"{recipe.source.repository}@{commit}"


def patterns(recipe: Recipe) -> list[str]:
    """Patterns of the paths of the files that a source may consist of."""
    return [*PATTERNS, *(PICKLES if recipe.source.allow_pickle else [])]


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Return whether a file of this path, relative to the checkpoint, belongs to a source."""
    return any(
        name.count("/") == pattern.count("/") and fnmatch.fnmatchcase(name, pattern)  # a * is no folder
        for pattern in patterns
    )


def files(directory: Path, patterns: Sequence[str]) -> list[str]:
    """Paths, relative to a checkpoint's directory, of the files that belong to a source, sorted."""
    paths = [*directory.iterdir(), *(directory / tokenizer.TEMPLATES).glob("*")]
    names = [path.relative_to(directory).as_posix() for path in paths if path.is_file()]
    return sorted(name for name in names if matches(name, patterns))


def _from_hub(recipe: Recipe, commit: str | None, patterns: list[str], target: Path) -> store.Artifact:
    repository = recipe.source.repository
    commit = commit or hub.resolve(repository, recipe.source.revision)
    wanted = _manifest(recipe, origin="hub", commit=commit)
    known = store.intact(target)
    if known is not None:
        # Licence and dimensions follow from the commit, so an artifact of this commit already has them.
        again = replace(wanted, source={**known.manifest.source, **wanted.source}, facts=known.manifest.facts)
        if known.manifest.same_making(again):
            say(f"source: unchanged at {repository}@{commit}")
            return known
    say(f"source: downloading {repository}@{commit}")
    with store.staging(target) as staged:
        hub.download(repository, commit, patterns, staged)
        with named(staged, place_of(recipe, None, commit)):
            found = _inspect(recipe, staged)
        return store.seal(staged, target, _complete(wanted, *found))


def _from_directory(recipe: Recipe, directory: Path, patterns: list[str], target: Path) -> store.Artifact:
    wanted = _complete(_manifest(recipe, origin="directory", commit=None), *_inspect(recipe, directory))
    names = files(directory, patterns)
    known = store.up_to_date(target, wanted)
    if known is not None and known.manifest.files == tuple(_entry(directory, name) for name in names):
        say("source: unchanged")
        return known
    say(f"source: copying {len(names)} files from {directory}")
    with store.staging(target) as staged:
        for name in names:
            (staged / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(directory / name, staged / name)
        with named(staged, str(directory)):
            _inspect(recipe, staged)  # what is kept is what was checked, even if the directory changed meanwhile
        return store.seal(staged, target, wanted)


def _inspect(recipe: Recipe, directory: Path) -> tuple[Dimensions, str | None]:
    """Dimensions and licence of a checkpoint that is whole and is what the recipe expects."""
    found = checkpoint.inspect(directory, allow_pickle=recipe.source.allow_pickle)
    own = architecture.find(recipe.architecture)
    where = directory / "config.json"
    if found.config["model_type"] not in own.model_types:
        hint = f"the recipe says architecture = {recipe.architecture!r}; name another source or another architecture"
        raise InputError(f"config key model_type is {found.config['model_type']!r}", where=where, hint=hint)
    dims = own.config.dimensions(found.config, where)
    _check_size(dims, own.config.buffer_bytes(dims), directory)
    tensors = pickled.tensors(found) if found.tensors is None else found.tensors
    config = stored.settled(found, tensors, own)
    stored.check(tensors, own, config, directory)
    dims = own.config.dimensions(config, where)
    license_ = license_of(directory)
    _check_expected(recipe, dims, license_, directory)
    return dims, license_


def _check_size(dims: Dimensions, buffers: int, where: Path) -> None:
    size = 4 * dims.parameters
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    needed = 6 * size + buffers  # PyTorch's weights where verify loads them, the graph, the file, with room
    if needed > memory:
        have = f"this machine has {memory / 2**30:.1f}"
        what = f"{dims.parameters} parameters take {needed / 2**30:.1f} GiB of memory, {have}"
        raise InputError(what, where=where, hint="convert on a machine with more memory, if config.json is right")


def _check_expected(recipe: Recipe, dims: Dimensions, license_: str | None, where: Path) -> None:
    have = {**asdict(dims), "license": license_}
    for field, wanted in asdict(recipe.source.expect).items():
        if wanted is not None and have[field] != wanted:
            hint = f"the recipe's source.expect says {wanted!r}; use that source, or correct the recipe if it is wrong"
            raise InputError(f"{field} of the source is {have[field]!r}", where=where, hint=hint)


def license_of(directory: Path) -> str | None:
    """The licence that a model card names in its front matter, if any; InputError when that is not YAML."""
    from huggingface_hub.repocard import metadata_load
    from yaml import YAMLError

    card = directory / "README.md"
    try:
        metadata = metadata_load(card) if card.is_file() else None
    except (YAMLError, ValueError, RecursionError) as error:
        raise InputError(
            f"front matter is not YAML: {error}", where=card, hint="correct the lines between --- at its top"
        ) from error
    value = (metadata or {}).get("license")
    return value if isinstance(value, str) else None


def _manifest(recipe: Recipe, *, origin: str, commit: str | None) -> Manifest:
    return Manifest(
        kind="source",
        name=recipe.name,
        variant="source",
        source={"origin": origin, "repository": recipe.source.repository, "commit": commit},
        recipe=recipe.source_digest,
        code=code_of("convert"),
        parents={},
        tools={},
    )


def _complete(manifest: Manifest, dims: Dimensions, license_: str | None) -> Manifest:
    return replace(manifest, source={**manifest.source, "license": license_}, facts={"dimensions": asdict(dims)})


def _entry(directory: Path, name: str) -> FileEntry:
    path = directory / name
    return FileEntry(name, path.stat().st_size, file_digest(path))
