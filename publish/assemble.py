"""build/<name>/repo: the repository as it will be on the Hub, an artifact like any other."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from model import genai_config, transformersjs_config
from pipeline.artifact import store
from pipeline.artifact.manifest import FileEntry, Manifest
from pipeline.canonical import digest, file_digest, read_json, write_json
from pipeline.command import say
from pipeline.errors import ArtifactError
from pipeline.plugins import code_of
from pipeline.recipe.recipe import read_recipe
from pipeline.variants import made_files
from publish import browser, card, provenance, secrets
from publish.tree import CARD, PROVENANCE, REPORT, Publishable, changed, known

AGAIN = "run: python -m quantize with this recipe, then verify"
# Files of which each variant has its own: the first names one graph, the second those that have external data.
DIFFERENT = (genai_config.FILE, transformersjs_config.FILE)


def assemble(published: Publishable, target: Path, token: str | None) -> store.Artifact:
    """The tree at `target`, kept as it is if nothing in it would change.

    Raises ArtifactError when variants disagree about a file they share or a file is unknown, InputError for a secret.
    """
    with store.staging(target) as staged:
        for name, (origin, sha256) in _sources(published).items():
            (staged / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(origin, staged / name)
            if sha256 is not None and file_digest(staged / name) != sha256:
                raise changed(origin)
        _write_config(published, staged / transformersjs_config.FILE)
        published = replace(published, files=_entries(staged))
        (staged / browser.SETTINGS).write_text(browser.page_json(published), encoding="utf-8")
        published = replace(published, files=_entries(staged))
        (staged / CARD).write_text(card.render(published), encoding="utf-8")
        published = replace(published, files=_entries(staged))
        statement = json.dumps(provenance.statement(published), indent=1, sort_keys=True, ensure_ascii=False)
        (staged / PROVENANCE).write_text(statement + "\n", encoding="utf-8")
        entries = _entries(staged)
        for entry in entries:
            if not known(entry.path):
                hint = "add it to LAYOUT in publish/tree.py if it belongs there"
                raise ArtifactError(f"file {entry.path} is unknown", where=published.home, hint=hint)
        secrets.refuse(staged, [entry.path for entry in entries], token)
        if read_recipe(published.recipe.path) != published.recipe:  # card and statement have read the file again
            raise changed(published.recipe.path)
        wanted = _manifest(published)
        there = store.up_to_date(target, wanted)
        if there is not None and there.manifest.files == entries:
            say("repo: unchanged")
            return there
        say(f"repo: {len(entries)} files, {sum(entry.size for entry in entries):,} bytes")
        made = store.seal(staged, target, wanted)
        if made.manifest.files != entries:
            raise changed(target)
        return made


def _sources(published: Publishable) -> dict[str, tuple[Path, str | None]]:
    """Return where every file that is copied comes from, by its path in the repository, and its SHA-256.

    That is the one which its artifact's manifest lists and the report is about: what lies there now may be another
    file. None for the page's own, which are code.
    """
    found: dict[str, tuple[Path, str | None]] = {}
    digests: dict[str, str] = {}
    shared = None
    for variant in _first_in_place(published):
        manifest = published.variants[variant]
        listed = {entry.path: entry.sha256 for entry in manifest.files}
        where = published.home / variant
        for name in made_files(variant):
            if name in listed:
                found[name] = where / name, listed.pop(name)
        if shared is not None and listed.keys() != shared:
            names = ", ".join(sorted(listed.keys() ^ shared))
            raise ArtifactError(f"the variants do not agree about having {names}", where=where, hint=AGAIN)
        shared = listed.keys()
        for name, sha256 in listed.items():
            if name not in DIFFERENT and digests.setdefault(name, sha256) != sha256:
                raise ArtifactError(f"the variants do not agree about {name}", where=where, hint=AGAIN)
            found.setdefault(name, (where / name, sha256))
    for entry in published.source.files:
        if entry.path.startswith("LICENSE"):
            found[entry.path] = published.source_directory / entry.path, entry.sha256
    for entry in published.report_manifest.files:
        found[f"{REPORT}/{entry.path}"] = published.home / REPORT / entry.path, entry.sha256
    return {**found, **{name: (path, None) for name, path in browser.assets().items()}}


def _first_in_place(published: Publishable) -> list[str]:
    """The variants, first one with a graph in place: its genai_config.json names that, which genai is faster with."""
    return sorted(published.variants, key=lambda variant: variant not in published.recipe.in_place)


def _write_config(published: Publishable, path: Path) -> None:
    """Write a config.json that tells of every variant's external data; ArtifactError where they disagree about more."""
    own = [(name, entry) for name, m in published.variants.items() for entry in m.files if entry.path == path.name]
    if len({entry.sha256 for _, entry in own}) < 2:
        return  # the one that is there
    configs = []
    for name, entry in own:
        place = published.home / name / path.name
        if file_digest(place) != entry.sha256:
            raise changed(place)
        configs.append(read_json(place))
        if transformersjs_config.without_data(configs[-1]) != transformersjs_config.without_data(configs[0]):
            raise ArtifactError(f"the variants do not agree about {path.name}", where=place.parent, hint=AGAIN)
    write_json(path, transformersjs_config.merged(configs))


def _manifest(published: Publishable) -> Manifest:
    variants = {name: manifest.digest for name, manifest in published.variants.items()}
    settings = published.recipe.publish
    return Manifest(
        kind="repository",
        name=published.recipe.name,
        variant="repo",
        source=published.source.source,
        recipe=digest(repr(settings)),
        code=code_of("publish"),
        parents={"source": published.source.digest, **variants, "report": published.report_manifest.digest},
        tools={},
        facts={"repository": published.repository, "dimensions": published.source.facts.get("dimensions")},
    )


def _entries(directory: Path) -> tuple[FileEntry, ...]:
    return tuple(sorted(_walk(directory), key=lambda entry: entry.path))


def _walk(directory: Path) -> Iterator[FileEntry]:
    for path in directory.rglob("*"):
        if path.is_file():
            yield FileEntry(path.relative_to(directory).as_posix(), path.stat().st_size, file_digest(path))
