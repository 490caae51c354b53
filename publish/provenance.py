"""Provenance: a SLSA v1 statement of what the published files were made from, by what, and how.

Without times: `metadata` is optional in SLSA v1, and equal input must give equal bytes, or every
publication would commit.
https://slsa.dev/spec/v1.0/provenance, https://github.com/in-toto/attestation/tree/main/spec/v1
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.artifact.manifest import FILE_NAME
from pipeline.canonical import canonical_json, file_digest
from pipeline.errors import ArtifactError
from publish.converter import Converter, converter
from publish.foreign import files_of
from publish.tree import DOCUMENT, PROVENANCE, SIGNATURE, Publishable

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
PIPELINE = "urn:pytorch-to-onnx-verified"  # no page describes it: a name, as SLSA's TypeURI allows
BUILD_TYPE = f"{PIPELINE}:recipe:v1"
UNLISTED = (PROVENANCE, FILE_NAME, SIGNATURE)  # the statement itself, and what is written after it
HINT = "do not use this tree; download it again, or publish it again"


class ProvenanceError(ArtifactError):
    """A tree is not what its provenance statement says, or the statement is none."""


def statement(published: Publishable) -> dict[str, Any]:
    """The in-toto statement; equal input gives an equal statement."""
    made_by = converter()
    recipe = published.recipe.path.read_bytes()
    return {
        "_type": STATEMENT,
        "subject": [_resource(entry.path, entry.sha256) for entry in published.files],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "recipe": {
                        "name": published.recipe.path.name,
                        "sha256": hashlib.sha256(recipe).hexdigest(),
                        "content": recipe.decode("utf-8"),
                    },
                    "repository": published.repository,
                    "command": f"make convert quantize verify publish RECIPE={published.recipe.path.name}",
                },
                "internalParameters": {
                    "variants": {name: _making(manifest) for name, manifest in published.variants.items()},
                    "environment": published.report["environment"],
                },
                "resolvedDependencies": [*_source(published), *_tools(made_by)],
            },
            "runDetails": {
                "builder": {"id": PIPELINE, "version": {"code": made_by.code}},
                "byproducts": [
                    _resource(entry.path, entry.sha256) for entry in published.files if entry.path == DOCUMENT
                ],
            },
        },
    }


def check(found: Mapping[str, Any], directory: Path) -> None:
    """Prove a tree against its statement.

    Raises ProvenanceError naming the first file that is missing, altered or not in the statement, and for a document
    that is no such statement, or whose recipe is not the one it gives the digest of.
    """
    subjects = _subjects(found, directory)
    present = set(files_of(directory)) - set(UNLISTED)
    for name in sorted(subjects.keys() ^ present):
        state = "missing" if name in subjects else "not in the provenance statement"
        raise ProvenanceError(f"file {name} is {state}", where=directory, hint=HINT)
    for name, sha256 in subjects.items():
        if file_digest(directory / name) != sha256:
            raise ProvenanceError(
                f"file {name} differs from its digest in the provenance statement", where=directory, hint=HINT
            )


def _subjects(found: Mapping[str, Any], directory: Path) -> dict[str, str]:
    where = directory / PROVENANCE
    try:
        kind = (found["_type"], found["predicateType"], found["predicate"]["buildDefinition"]["buildType"])
        subjects = {str(subject["name"]): str(subject["digest"]["sha256"]) for subject in found["subject"]}
        recipe = found["predicate"]["buildDefinition"]["externalParameters"]["recipe"]
        recipe_digest, content = recipe["sha256"], str(recipe["content"]).encode()
        reports = {item["name"]: item["digest"]["sha256"] for item in found["predicate"]["runDetails"]["byproducts"]}
    except (KeyError, TypeError, AttributeError) as error:
        raise ProvenanceError(f"not a provenance statement: {error!r}", where=where, hint=HINT) from error
    if kind != (STATEMENT, PREDICATE, BUILD_TYPE):
        raise ProvenanceError(f"not a statement of this pipeline: {kind}", where=where, hint=HINT)
    if len(subjects) != len(found["subject"]):
        raise ProvenanceError("the statement lists a file twice", where=where, hint=HINT)
    if hashlib.sha256(content).hexdigest() != recipe_digest:
        raise ProvenanceError("the recipe in the statement differs from its digest", where=where, hint=HINT)
    if reports != {DOCUMENT: subjects.get(DOCUMENT)}:
        raise ProvenanceError("the report in the statement is not the one in the tree", where=where, hint=HINT)
    return subjects


def _making(manifest: Any) -> dict[str, Any]:
    return {
        "manifest": manifest.digest,
        "recipe": manifest.recipe,
        "code": manifest.code,
        "parents": dict(manifest.parents),
        "tools": dict(manifest.tools),
    }


def _source(published: Publishable) -> list[dict[str, Any]]:
    """The source repository at its commit, and every file that was taken from it."""
    repository, commit = published.source.source["repository"], published.source.source["commit"]
    base = "" if commit is None else f"https://huggingface.co/{repository}/resolve/{commit}/"
    files = [
        _resource(f"source/{entry.path}", entry.sha256, uri=f"{base}{entry.path}" if base else None)
        for entry in published.source.files
    ]
    if commit is None:
        # A directory has no commit; its content does have a digest, that of the list of its files.
        content = hashlib.sha256(canonical_json([vars(entry) for entry in published.source.files])).hexdigest()
        return [_resource("source", content, annotations={"origin": "directory", "repository": repository}), *files]
    purl = f"pkg:huggingface/{repository}@{commit}"
    return [{"name": "source", "uri": purl, "digest": {"gitCommit": commit}}, *files]


def _tools(made_by: Converter) -> list[dict[str, Any]]:
    commit = {} if made_by.commit is None else {"gitCommit": made_by.commit}
    program = {"name": "converter", "digest": {**commit, "sha256": made_by.code}}
    return [
        {**program, "annotations": {"changedSinceCommit": made_by.changed}},
        _resource("constraints.txt", made_by.constraints),
    ]


def _resource(name: str, sha256: str, *, uri: str | None = None, annotations: Any = None) -> dict[str, Any]:
    return {
        "name": name,
        **({} if uri is None else {"uri": uri}),
        "digest": {"sha256": sha256},
        **({} if annotations is None else {"annotations": annotations}),
    }
