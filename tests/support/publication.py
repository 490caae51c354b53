"""A tree as it would be published, of the embedded model and a report with the measures that the card shows."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.artifact.manifest import FileEntry, Manifest, parse_manifest
from pipeline.canonical import file_digest, read_json
from pipeline.recipe.recipe import read_recipe
from publish import browser
from publish.tree import Publishable
from tests.conftest import EMBEDDED

REPOSITORY = "somebody/embedded-ONNX"
MEASURES = {"mean_kld": 1.2e-4, "p999_kld": 3e-3, "same_top": 0.975, "perplexity": 95.0, "reference_perplexity": 94.0}


def report(variants: Mapping[str, Manifest]) -> dict[str, Any]:
    """Every variant passed, with the same figures."""
    measures = [
        {"name": name, "value": value, "upper": name != "same_top", "compared": 4080, "passed": True}
        for name, value in MEASURES.items()
    ]
    return {
        "verdict": "passed",
        "text": {"sha256": "ab" * 32, "tokens": 33387},
        "seed": 0,
        "environment": {"python": "3.11", "platform": "Linux", "processor": "a processor", "packages": {"onnx": "1"}},
        "results": [
            {"variant": name, "check": "divergence", "level": "any", "passed": True, "measures": measures}
            for name in variants
        ],
    }


def assembled(home: Path, tree: Path) -> Publishable:
    """Copy variants, report and page of build/<name> into `tree`; what the card and the provenance are written from."""
    names = [path.name for path in home.iterdir() if (path / "onnx").is_dir()]
    manifests = {name: manifest(home / name) for name in sorted(names, key=lambda name: name != "fp32")}
    for name in reversed(manifests):  # what all have: that of fp32, as publish has it
        shutil.copytree(home / name, tree, dirs_exist_ok=True, ignore=shutil.ignore_patterns("manifest.json"))
    (tree / "report").mkdir()
    (tree / "report" / "report.json").write_text(json.dumps(report(manifests)))
    published = Publishable(
        recipe=read_recipe(EMBEDDED),
        repository=REPOSITORY,
        home=home,
        source=manifest(home / "source"),
        variants=manifests,
        report_manifest=manifests["fp32"],
        report=read_json(tree / "report" / "report.json"),
        files=entries(tree),
    )
    for path, origin in browser.assets().items():
        (tree / path).parent.mkdir(exist_ok=True)
        shutil.copyfile(origin, tree / path)
    (tree / browser.SETTINGS).write_text(browser.page_json(published), encoding="utf-8")
    return replace(published, files=entries(tree))


def entries(tree: Path) -> tuple[FileEntry, ...]:
    files = sorted(path for path in tree.rglob("*") if path.is_file())
    return tuple(FileEntry(p.relative_to(tree).as_posix(), p.stat().st_size, file_digest(p)) for p in files)


def manifest(directory: Path) -> Manifest:
    path = directory / "manifest.json"
    return parse_manifest(path.read_bytes(), path)
