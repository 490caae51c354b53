"""build/<name>/repo: the repository as it will be on the Hub, an artifact like any other."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from model import genai_config
from pipeline.artifact import store
from pipeline.artifact.manifest import FileEntry, Manifest
from pipeline.canonical import digest, file_digest
from pipeline.command import say
from pipeline.errors import ArtifactError
from pipeline.plugins import code_of
from pipeline.recipe.recipe import read_recipe
from pipeline.variants import model_file
from publish import browser, card, provenance, secrets
from publish.tree import CARD, PROVENANCE, REPORT, Publishable, changed, known


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
    for variant, manifest in published.variants.items():
        listed = {entry.path: entry.sha256 for entry in manifest.files}
        graph = listed.pop(model_file(variant))
        where = published.home / variant
        if shared is not None and listed.keys() != shared:
            names = ", ".join(sorted(listed.keys() ^ shared))
            hint = "run: python -m quantize with this recipe, then verify"
            raise ArtifactError(f"the variants do not agree about having {names}", where=where, hint=hint)
        shared = listed.keys()
        for name, sha256 in listed.items():
            if digests.setdefault(name, sha256) != sha256 and name != genai_config.FILE:
                hint = "run: python -m quantize with this recipe, then verify"
                raise ArtifactError(f"the variants do not agree about {name}", where=where, hint=hint)
            found.setdefault(name, (where / name, sha256))
        found[model_file(variant)] = where / model_file(variant), graph
    for entry in published.source.files:
        if entry.path.startswith("LICENSE"):
            found[entry.path] = published.source_directory / entry.path, entry.sha256
    for entry in published.report_manifest.files:
        found[f"{REPORT}/{entry.path}"] = published.home / REPORT / entry.path, entry.sha256
    return {**found, **{name: (path, None) for name, path in browser.assets().items()}}


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
