"""The try-it page: the files it is made of, and page.json, which tells it what it may load, from where and how big.

The page runs no byte and reads no model file that page.json does not list with its SHA-256.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

from pipeline.artifact.manifest import FileEntry
from pipeline.canonical import read_json
from pipeline.recipe.recipe import Recipe
from pipeline.variants import DATA, FILES, model_file
from publish import webgpu
from publish.tree import Publishable

HOME = Path(__file__).resolve().parent / "page"
SETTINGS = "page.json"
CDN = "https://cdn.jsdelivr.net/npm"  # the one that Transformers.js documents
OWN_DEFAULTS = {"wasm": "q8", "webgpu": "fp32"}  # what Transformers.js takes where config.json says nothing
# What Transformers.js reads beside the graph.
READ = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")


def assets() -> dict[str, Path]:
    """The page's own files, by their path in the published repository."""
    files = [HOME / "index.html", *(HOME / "assets").iterdir()]
    return {path.relative_to(HOME).as_posix(): path for path in sorted(files)}


def page_json(published: Publishable) -> str:
    """page.json of the published repository: the model's files there, and the code from where it is published."""
    context = next(iter(published.variants.values())).facts["dimensions"]["context"]
    about = settings(published.recipe, context, published.files, published_code(), webgpu.judged(published.report))
    return json.dumps(about, indent=1, ensure_ascii=False) + "\n"


def settings(
    recipe: Recipe, context: int, files: Iterable[FileEntry], code: Mapping[str, Any], judged: AbstractSet[str]
) -> dict[str, Any]:
    """page.json: the model's name, its context in tokens, its files and variants, and the library (`code`).

    The variants `preferred` are what Transformers.js itself takes on each device: the recipe's default, else its own.
    `files` are those of the repository, of which only what the page reads is listed, without variants that have
    external data: they are too large for a page; `code` is `published_code()` or
    what a server gives in its place; `judged` are the variants that were judged right on WebGPU.
    """
    entries = {entry.path: entry for entry in files}
    return {
        "name": recipe.name,
        "context": context,
        "preferred": {device: recipe.defaults.get(device, own) for device, own in OWN_DEFAULTS.items()},
        "code": dict(code),
        "files": [_listed(entries[path]) for path in READ if path in entries],
        "variants": [
            {"dtype": variant, "webgpu": variant in judged, **_listed(entries[graph])}
            for variant in FILES
            if (graph := model_file(variant)) in entries and graph + DATA not in entries
        ],
    }


def library() -> dict[str, dict[str, Any]]:
    """The npm files that the page runs, by role: package, version, path, size in bytes, SHA-256."""
    table: dict[str, dict[str, Any]] = read_json(HOME / "library.json")
    return table


def published_code() -> dict[str, dict[str, Any]]:
    """The library as a published page loads it: from the CDN, at the pinned version."""
    return {
        role: _code(file, f"{CDN}/{file['package']}@{file['version']}/{file['path']}")
        for role, file in library().items()
    }


def local_code() -> tuple[dict[str, dict[str, Any]], dict[str, Path]]:
    """The library as a local server gives it: entries for page.json, and the npm file behind each address."""
    found = library()
    code = {role: _code(file, f"library/{Path(file['path']).name}") for role, file in found.items()}
    places = {code[role]["url"]: HOME / "node_modules" / file["package"] / file["path"] for role, file in found.items()}
    return code, places


def _code(file: Mapping[str, Any], url: str) -> dict[str, Any]:
    return {"name": Path(file["path"]).name, "url": url, "size": file["size"], "sha256": file["sha256"]}


def _listed(entry: FileEntry) -> dict[str, Any]:
    return {"name": entry.path, "size": entry.size, "sha256": entry.sha256}
