"""Refuse to publish what was not verified: the artifacts, the report about exactly them, and the licence."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

from pipeline import plugins
from pipeline.artifact import lineage, store
from pipeline.artifact.store import Artifact
from pipeline.canonical import parse_json
from pipeline.command import invocation
from pipeline.errors import ArtifactError, InputError
from pipeline.plugins import code_of
from pipeline.recipe.recipe import Recipe
from pipeline.variants import is_in_place, model_file, read_files
from publish import webgpu
from publish.tree import REPORT, Publishable

CHECKS, RUNTIMES = "verify/checks", "verify/runtimes"
TWIN = (
    "twin"  # JUDGES of a check that holds a file beside a variant's graph: asked of a graph in place, or a foreign one
)
OTHER_FILE = "onnx"  # origin of a source that is an ONNX file (verify --reference)
SHOWN = 5  # failures that a refusal names


def gather(recipe: Recipe, home: Path, repository: str, *, own_prompts: bool = False) -> Publishable:
    """Everything below build/<name> that may be published as `repository`, its `files` still empty.

    `own_prompts` says that everybody may read the prompts of the user's own that a report shows.

    Raises ArtifactError when an artifact or the report is missing, stale, incomplete or failed, InputError when the
    licence is absent or not the one the recipe expects.
    """
    source = lineage.open_source(home, recipe)
    base = lineage.open_variant(home, recipe, "fp32", source)
    variants = {"fp32": base}
    for name in recipe.variants:
        variants[name] = lineage.open_variant(home, recipe, name, base)
    _check_license(recipe, source)
    report = store.open_artifact(home / REPORT, made_by=_again(recipe, home))
    document = _document(recipe, report)
    complaint = _about_others(recipe, report, source, variants) or _not_passed(recipe, document, variants)
    if complaint is not None:
        raise ArtifactError(complaint, where=report.path, hint=f"run: {_again(recipe, home)}")
    if document["prompts"] and not own_prompts:
        what = f"the report shows prompts of your own ({document['prompts']['file']}), for everybody to read"
        hint = f"add --own-prompts, or leave them out of the report: {_again(recipe, home)}"
        raise ArtifactError(what, where=report.path, hint=hint)
    return Publishable(
        recipe=recipe,
        repository=repository,
        home=home,
        source=source.manifest,
        variants={name: artifact.manifest for name, artifact in variants.items()},
        report_manifest=report.manifest,
        report=document,
        files=(),
    )


def not_run(report: Mapping[str, Any]) -> list[str]:
    """Return what the report says did not run although it had to, with the reason."""
    return [f"{entry['what']}: {entry['reason']}" for entry in report["not_run"] if entry["required"]]


def _document(recipe: Recipe, report: Artifact) -> Any:
    """report.json as the artifact's manifest has it: read once, for the file may be another by now."""
    place = report.path / "report.json"
    listed = {entry.path: entry.sha256 for entry in report.manifest.files}
    content = place.read_bytes()
    if listed.get(place.name) != hashlib.sha256(content).hexdigest():
        raise ArtifactError(
            "the report changed while it was read", where=place, hint=f"run: {_again(recipe, report.path.parent)}"
        )
    return parse_json(content, place)


def _again(recipe: Recipe, home: Path) -> str:
    return invocation("verify", recipe.path, home.parent)


def _check_license(recipe: Recipe, source: Artifact) -> None:
    have, wanted = source.manifest.source.get("license"), recipe.source.expect.license
    if have is None:
        hint = "add license: NAME between the --- lines at the top of the source's README.md, and convert it again"
        raise InputError("the source states no licence", where=source.path / "README.md", hint=hint)
    if wanted is None:
        hint = f"read the source's licence; if it may be published under it, add license = {have!r} to [source.expect]"
        raise InputError("the recipe does not say which licence it expects", where="source.expect.license", hint=hint)
    if have != wanted:
        hint = (
            f"read the new licence; if it may be published under it, say so in [source.expect] in place of {wanted!r}"
        )
        raise InputError(f"the source's licence is {have!r}", where=source.path / "README.md", hint=hint)


def _about_others(recipe: Recipe, report: Artifact, source: Artifact, variants: Mapping[str, Artifact]) -> str | None:
    """Return why the report is not one about these artifacts by this recipe; None if it is."""
    manifest = report.manifest
    if manifest.source.get("origin") == OTHER_FILE:
        return "the report holds one ONNX file against another, not against PyTorch: no such report is published"
    if (manifest.kind, manifest.name) != ("report", recipe.name):
        return f"it is a {manifest.kind} of {manifest.name}, not the report of {recipe.name}"
    if manifest.recipe != recipe.verdict_digest:
        return "the report was judged by other settings, tolerances or text than the recipe has now"
    if manifest.code != code_of("verify"):
        return "the report was judged by another version of verify than this one"
    there = {"source": source.digest, **{name: artifact.digest for name, artifact in variants.items()}}
    for name in sorted(there.keys() | manifest.parents.keys()):
        if name not in manifest.parents:
            return f"the report does not judge {name}"
        if manifest.parents[name] != there.get(name):
            return f"the report is about another {name} than the one there now"
    return None


def _not_passed(recipe: Recipe, report: Mapping[str, Any], variants: Mapping[str, Artifact]) -> str | None:
    """Return why the report's content is no pass of every variant; None if it is."""
    if report["verdict"] != "passed":
        failed = [f"{entry['variant']}: {_which(entry)}" for entry in report["results"] if not entry["passed"]]
        found = "; ".join(list(dict.fromkeys(failed))[:SHOWN]) or "see report/report.md"
        return f"the verdict is {report['verdict']!r} ({found})"
    if not report["complete"] or report["not_judged"]:
        return f"the report is incomplete: {', '.join(report['not_judged']) or 'part of it was left out'}"
    lacking = not_run(report)
    if lacking:
        return f"a required check or runtime did not run: {'; '.join(lacking)}"
    required = {second: _required(recipe, in_place=second) for second in (False, True)}
    judged = {entry["variant"]: (entry["bytes"], entry["sha256"]) for entry in report["candidates"]}
    graphs = [(name, artifact) for variant, artifact in variants.items() for name in recipe.graphs(variant)]
    for name, artifact in graphs:
        files = {entry.path: entry for entry in artifact.manifest.files}
        graph = files[model_file(name)]
        size = sum(files[path].size for path in read_files(name, files))
        if judged.pop(name, None) != (size, graph.sha256):
            return f"the report is about other bytes than {graph.path}"
        own = [result for result in report["results"] if result["variant"] == name]
        complaint = _not_run_on(required[is_in_place(name)], name, own, _excused(report, name))
        if complaint is not None:
            return complaint
    if judged:
        return f"the report judges {', '.join(judged)}, which the recipe does not make"
    return _default_not_judged(recipe, report)


def _default_not_judged(recipe: Recipe, report: Mapping[str, Any]) -> str | None:
    """Return why the default on WebGPU may not be published; None if it passed there."""
    variant = recipe.defaults.get("webgpu")
    if variant is None or variant in webgpu.judged(report):
        return None
    what = f"{variant}, which pages load on WebGPU unasked (defaults.webgpu), was not judged there"
    places = (f"{webgpu.PLACE}: {variant}", webgpu.PLACE, "browser")
    reasons = [entry["reason"] for entry in report["not_run"] if entry["what"] in places]
    return "; ".join((what, *reasons))


def _excused(report: Mapping[str, Any], variant: str) -> set[str]:
    """Return the configurations of runtimes that cannot run a variant, and of which the report says why."""
    entries = (entry["what"].partition(": ") for entry in report["not_run"] if not entry["required"])
    return {what for what, _, which in entries if which == variant}


def _required(recipe: Recipe, *, in_place: bool) -> list[str]:
    """Return the checks and runtimes that a variant's own graph, or its graph in place, must have a result of."""
    checks = recipe.verify.checks
    stated = [*recipe.verify.runtimes.require, *(recipe.publish.require if recipe.publish else ())]
    if in_place:
        return [*checks, *filter(_asked_in_place, stated)]
    return [*(name for name in checks if plugins.constant(CHECKS, name, "JUDGES", str) != TWIN), *stated]


def _asked_in_place(entry: str) -> bool:
    """Return whether a check, or a runtime or configuration of one, is asked about graphs in place."""
    runtime = entry.partition(", ")[0]
    return runtime not in plugins.names(RUNTIMES) or plugins.constant(RUNTIMES, runtime, "IN_PLACE", bool)


def _which(result: Mapping[str, Any]) -> str:
    """Return which check, where and how, such as "logits in browser, webgpu" or "cache at enable_all"."""
    check, level = str(result["check"]), result.get("level")
    if level in (None, "any"):
        return check
    return f"{check} at {level}" if result.get("runtime") is None else f"{check} in {result['runtime']}, {level}"


def _not_run_on(
    required: Sequence[str], variant: str, results: Sequence[Mapping[str, Any]], excused: AbstractSet[str]
) -> str | None:
    for result in results:
        if not result["passed"]:
            return f"{variant}: {_which(result)} did not pass"
    ran = {result.get(key) for result in results for key in ("check", "runtime")}
    ran |= {f"{result.get('runtime')}, {result.get('level')}" for result in results}
    ran |= excused
    for name in required:
        if name not in ran:
            return f"a required check or runtime did not run: {name} on {variant}"
    return None
