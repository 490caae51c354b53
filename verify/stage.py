"""What is judged against what, and where the report goes: built variants with their lineage, or any single file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from artifact import checkpoint, signature, store
from artifact.canonical import code_digest, digest, file_digest, read_json
from artifact.command import say
from artifact.errors import ArtifactError, InputError, RecipeError
from artifact.manifest import Manifest
from artifact.recipe import Recipe
from artifact.registry import ROOT
from verify import examine, report, verdict
from verify.checks.tokenizer import beside
from verify.corpus import Corpus, read_text
from verify.environment import environment
from verify.examine import Examination, Target

Report = dict[str, Any]


@dataclass(frozen=True)
class Making:
    """What an artifact must have been made from, and the command that makes it."""

    variant: str
    recipe: str  # digest of the part of the recipe
    parents: Mapping[str, str]
    command: str


@dataclass(frozen=True)
class Order:
    """One judgement: the reference's checkpoint, the candidates, the checks, and where the report goes."""

    source: Path
    targets: Sequence[Target]
    checks: Sequence[str]
    directory: Path
    explain: bool = False  # where the fault of a failed variant is
    baseline: Path | None = None  # the built file that a candidate should be


def built(recipe: Recipe, chosen: Sequence[str] | None, home: Path, *, explain: bool = False) -> tuple[Report, Path]:
    """Judge the built variants (or those chosen); the report and its directory.

    Raises ArtifactError for an artifact that is missing, altered, or not what the recipe and its parents now say.
    """
    convert, quantize = f"python -m convert {recipe.path}", f"python -m quantize {recipe.path}"
    origin = _open(home, recipe, Making("source", recipe.source_digest, {}, convert))
    base = _open(home, recipe, Making("fp32", recipe.model_digest, {"source": origin.digest}, convert))
    known = ["fp32", *recipe.variants]
    artifacts = {"fp32": base} if not chosen or "fp32" in chosen else {}
    for variant in recipe.variants:
        if variant in chosen if chosen else (home / variant).is_dir():
            making = Making(variant, recipe.variant_digest(variant), {"fp32": base.digest}, quantize)
            artifacts[variant] = _open(home, recipe, making)
    place = environment()
    parents = {"source": origin.digest, **{variant: artifact.digest for variant, artifact in artifacts.items()}}
    missing = [variant for variant in known if variant not in artifacts]
    wanted = _manifest(recipe, origin.manifest.source, parents, place, complete=not missing)
    target = home / "report"
    done = store.up_to_date(
        target, _with_verdict(wanted, "passed")
    )  # a failure is tried again: it may have been a time-out
    if done is not None:
        say("report: unchanged")
        return read_json(target / "report.json"), target
    header = {
        "source": {**origin.manifest.source, "digest": origin.digest},
        "complete": not missing,
        "not_judged": missing,
        "not_run": [],
        "environment": place,
    }
    targets = [
        Target(variant, artifact.path / signature.model_file(variant)) for variant, artifact in artifacts.items()
    ]
    return _report(recipe, Order(origin.path, targets, recipe.verify.checks, target, explain), header, wanted)


def candidate(  # noqa: PLR0913  # each is a flag of the command line
    recipe: Recipe, path: Path, variant: str, directory: Path | None, home: Path, *, explain: bool = False
) -> tuple[Report, Path]:
    """Judge any ONNX file by a variant's tolerances, against a checkpoint directory or the built source."""
    if not path.is_file():
        raise InputError("not a file", where=path, hint="name an ONNX file with --candidate")
    if directory is None:
        origin = store.open_artifact(home / "source", made_by=f"python -m convert {recipe.path}")
        directory, source = origin.path, {**origin.manifest.source, "digest": origin.digest}
    else:
        weights = checkpoint.inspect(directory, allow_pickle=recipe.source.allow_pickle).weight_files
        source = {"origin": "directory", "digest": digest({name: file_digest(directory / name) for name in weights})}
    checks = list(recipe.verify.checks)
    not_run = []
    if beside(path) is None and "tokenizer" in checks:
        say("tokenizer: NOT RUN: no tokenizer or config lies beside the candidate; the verdict is on the graph alone")
        checks.remove("tokenizer")
        not_run = ["tokenizer"]
    place = environment()
    header = {"source": source, "complete": False, "not_judged": [], "not_run": not_run, "environment": place}
    manifest = _manifest(recipe, source, {}, place, complete=False)
    clean = home / variant / signature.model_file(variant)
    baseline = clean if clean.is_file() and clean.resolve() != path.resolve() else None
    order = Order(directory, [Target(variant, path)], checks, home / "candidate-report", explain, baseline)
    return _report(recipe, order, header, manifest)


def _open(home: Path, recipe: Recipe, making: Making) -> store.Artifact:
    """Open an artifact; ArtifactError unless it is this recipe's, made from the parents that are there now."""
    artifact = store.open_artifact(home / making.variant, made_by=making.command)
    manifest, hint = artifact.manifest, f"run: {making.command}"
    if (manifest.name, manifest.variant) != (recipe.name, making.variant):
        what = f"it is {manifest.variant} of {manifest.name}, not {making.variant} of {recipe.name}"
        raise ArtifactError(what, where=artifact.path, hint=hint)
    if manifest.recipe != making.recipe:
        raise ArtifactError("made by another recipe than this one is now", where=artifact.path, hint=hint)
    for name, wanted in making.parents.items():
        if manifest.parents.get(name) != wanted:
            raise ArtifactError(f"made from another {name} than the one there now", where=artifact.path, hint=hint)
    return artifact


def _report(recipe: Recipe, order: Order, header: Mapping[str, Any], manifest: Manifest) -> tuple[Report, Path]:
    """Judge, write the report's artifact, and return the report and its directory."""
    targets = order.targets
    modules = examine.plan(recipe, order.checks)
    settings = examine.settings_of(recipe, modules)
    verdict.require_tolerances(recipe, modules, [target.variant for target in targets])
    read_text(recipe.text_path)
    before = [file_digest(target.path) for target in targets]

    from verify.reference import Reference  # torch takes seconds to load; what is refused above is refused at once

    say("verify: loading the reference")
    reference = Reference(order.source, allow_pickle=recipe.source.allow_pickle)
    _check_expected(recipe, reference, order.source)
    corpus = Corpus(recipe.text_path, reference.tokenizer, recipe.verify.seed)
    with store.staging(order.directory) as staged:
        results = Examination(recipe, reference, corpus, modules, settings).run(targets, staged)
        for target, wanted in zip(targets, before, strict=True):
            if file_digest(target.path) != wanted:
                raise InputError("the file changed while it was judged", where=target.path, hint="verify it again")
        about = {
            "name": recipe.name,
            "recipe": manifest.recipe,
            **header,
            "candidates": [
                {"variant": t.variant, "file": t.path.name, "bytes": t.path.stat().st_size, "sha256": sha256}
                for t, sha256 in zip(targets, before, strict=True)
            ],
            "seed": recipe.verify.seed,
            "settings": {name: asdict(table) for name, table in settings.items()},
            "text": {"sha256": file_digest(recipe.text_path), "tokens": len(corpus.ids)},
        }
        made = report.document(results, about)
        report.write(made, staged)
        if order.explain and made["verdict"] != "passed":
            from verify.explain import failed_variants

            context = failed_variants.Context(recipe, reference, corpus, modules, settings)
            failed_variants.explain_all(context, order, results, made, staged)
        store.seal(staged, order.directory, _with_verdict(manifest, made["verdict"]))
    return made, order.directory


def _check_expected(recipe: Recipe, reference: Any, where: Path) -> None:
    """The checkpoint that a foreign file is judged against must be the one that the recipe describes."""
    have = asdict(reference.dimensions)
    for field, wanted in asdict(recipe.source.expect).items():
        if wanted is not None and field in have and have[field] != wanted:
            hint = f"the recipe's source.expect says {wanted!r}; name that checkpoint with --source"
            raise InputError(f"{field} of the source is {have[field]!r}", where=where, hint=hint)


def _manifest(
    recipe: Recipe, source: Mapping[str, Any], parents: Mapping[str, str], place: Mapping[str, Any], *, complete: bool
) -> Manifest:
    try:
        text = file_digest(recipe.text_path)
    except OSError as error:
        hint = "set verify.text to a UTF-8 text file, relative to the recipe"
        raise RecipeError(f"text cannot be read: {error.strerror}", where=recipe.text_path, hint=hint) from error
    return Manifest(
        kind="report",
        name=recipe.name,
        variant="report",
        source=source,
        recipe=digest([repr(recipe.verify), repr(recipe.tolerances), text]),
        code=code_digest(ROOT / "verify", ROOT / "artifact"),
        parents=parents,
        tools=place["packages"],
        facts={"complete": complete, "environment": digest(place)},
    )


def _with_verdict(manifest: Manifest, outcome: str) -> Manifest:
    return replace(manifest, facts={**manifest.facts, "verdict": outcome})
