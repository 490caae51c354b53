"""python -m verify RECIPE [--variant NAME ...] [--candidate FILE.onnx] [--source DIR] [--build DIR]: the verdict."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifact import command, signature, store
from artifact.canonical import canonical_json, code_digest, digest, file_digest, read_json
from artifact.command import say
from artifact.errors import CHECK_FAILED, PASSED, ArtifactError, InputError, RecipeError
from artifact.manifest import Manifest
from artifact.recipe import Recipe, read_recipe
from artifact.registry import ROOT
from artifact.typed import did_you_mean

if TYPE_CHECKING:
    from argparse import Namespace

    from verify.examine import Target


def main(argv: Sequence[str] | None) -> int:
    """Run the stage; prints the report's directory. Exit code 0 only if every check of every candidate passed."""
    parser = command.parser("verify", "Judge ONNX files against the PyTorch reference.")
    names = ", ".join(signature.FILES)
    parser.add_argument("--variant", nargs="+", action="extend", metavar="NAME", help=f"judge only these; of {names}")
    parser.add_argument(
        "--candidate", type=Path, metavar="FILE.onnx", help="judge this file, by --variant's tolerances"
    )
    parser.add_argument("--source", type=Path, metavar="DIR", help="checkpoint to judge the candidate against")
    arguments = parser.parse_args(argv)
    recipe = read_recipe(arguments.recipe)
    _check_arguments(recipe, arguments)
    os.environ["HF_HUB_OFFLINE"] = "1"  # the judge looks nothing up
    home = arguments.build / recipe.name
    if arguments.candidate is not None:
        return _verify_candidate(recipe, arguments, home)
    return _verify_built(recipe, arguments.variant, home)


def _check_arguments(recipe: Recipe, arguments: Namespace) -> None:
    known = ["fp32", *recipe.variants]
    for variant in arguments.variant or ():
        if variant not in known:
            raise RecipeError(f"unknown variant {variant!r}", where="--variant", hint=did_you_mean(variant, known))
    if arguments.candidate is not None and len(arguments.variant or ()) != 1:
        hint = f"add --variant NAME; known: {', '.join(known)}"
        raise RecipeError("a candidate is judged by one variant's tolerances", where="--candidate", hint=hint)
    if arguments.candidate is None and arguments.source is not None:
        hint = "built variants are judged against build/<name>/source; use --source with --candidate, or with convert"
        raise RecipeError("--source without --candidate", where="--source", hint=hint)


def _verify_built(recipe: Recipe, chosen: list[str] | None, home: Path) -> int:
    convert, quantize = f"python -m convert {recipe.path}", f"python -m quantize {recipe.path}"
    origin = store.open_artifact(home / "source", made_by=convert)
    known = ["fp32", *recipe.variants]
    variants = chosen or [variant for variant in known if (home / variant).is_dir()]
    if not variants:
        raise RecipeError("no variant has been built", where=home, hint=f"run: {convert}")
    artifacts = {v: store.open_artifact(home / v, made_by=convert if v == "fp32" else quantize) for v in variants}
    base = store.open_artifact(home / "fp32", made_by=convert)
    _check_lineage(base, origin, convert)
    for variant, artifact in artifacts.items():
        if variant != "fp32":
            _check_lineage(artifact, base, quantize)
    from verify.environment import environment  # after parsing, so that --help is instant
    from verify.examine import Target

    place = environment()
    parents = {"source": origin.digest, **{variant: artifact.digest for variant, artifact in artifacts.items()}}
    wanted = _manifest(recipe, origin.manifest.source, parents, place)
    report_home = home / "report"
    done = store.intact(report_home)
    if done is not None and done.manifest.same_making(_with_verdict(wanted, done.manifest.facts.get("verdict"))):
        say("report: unchanged")
        return _conclude(read_json(report_home / "report.json"), report_home)
    targets = [Target(v, a.path / signature.model_file(v)) for v, a in artifacts.items()]
    missing = [variant for variant in known if variant not in variants]
    header = {"not_judged": missing, "source": dict(origin.manifest.source), "environment": place}
    report = _judge(recipe, origin.path, targets, header, recipe.verify.checks)
    return _seal(report, report_home, _with_verdict(wanted, report["verdict"]))


def _verify_candidate(recipe: Recipe, arguments: Namespace, home: Path) -> int:
    from verify.checks.tokenizer import beside
    from verify.environment import environment
    from verify.examine import Target

    path: Path = arguments.candidate
    if not path.is_file():
        raise InputError("not a file", where=path, hint="name an ONNX file with --candidate")
    source = arguments.source
    if source is None:
        source = store.open_artifact(home / "source", made_by=f"python -m convert {recipe.path}").path
    checks = recipe.verify.checks
    if beside(path) is None and "tokenizer" in checks:
        say("tokenizer: NOT RUN: no such file lies beside the candidate; the verdict is on the graph alone")
        checks = tuple(check for check in checks if check != "tokenizer")
    place = environment()
    header = {"not_judged": [], "source": {"origin": "directory"}, "environment": place}
    report = _judge(recipe, source, [Target(arguments.variant[0], path)], header, checks)
    manifest = _manifest(recipe, header["source"], {}, place)
    return _seal(report, home / "candidate-report", _with_verdict(manifest, report["verdict"]))


def _check_lineage(child: store.Artifact, parent: store.Artifact, made_by: str) -> None:
    name = parent.manifest.variant
    if child.manifest.parents.get(name) != parent.digest:
        raise ArtifactError(
            f"made from another {name} than the one there now", where=child.path, hint=f"run: {made_by}"
        )


def _judge(
    recipe: Recipe, source: Path, targets: list[Target], header: dict[str, Any], checks: Sequence[str]
) -> dict[str, Any]:
    from verify import examine, report, verdict

    modules = examine.plan(recipe, checks)
    settings = examine.settings_of(recipe, modules)
    verdict.require_tolerances(recipe, modules, [target.variant for target in targets])

    from verify.corpus import Corpus
    from verify.reference import Reference

    say("verify: loading the reference")
    reference = Reference(source, allow_pickle=recipe.source.allow_pickle)
    corpus = Corpus(recipe.text_path, reference.tokenizer, recipe.verify.seed)
    results = examine.Examination(recipe, reference, corpus, modules, settings).run(targets)
    about = {
        "name": recipe.name,
        **header,
        "candidates": [
            {
                "variant": target.variant,
                "file": target.path.name,
                "bytes": target.path.stat().st_size,
                "sha256": file_digest(target.path),
            }
            for target in targets
        ],
        "seed": recipe.verify.seed,
        "text": {"sha256": file_digest(recipe.text_path), "tokens": len(corpus.ids)},
    }
    return report.document(results, about)


def _manifest(recipe: Recipe, source: Any, parents: dict[str, str], place: dict[str, Any]) -> Manifest:
    return Manifest(
        kind="report",
        name=recipe.name,
        variant="report",
        source=source,
        recipe=digest([repr(recipe.verify), repr(recipe.tolerances), file_digest(recipe.text_path)]),
        code=code_digest(ROOT / "verify", ROOT / "artifact"),
        parents=parents,
        tools=place["packages"],
        facts={"environment": digest(place)},
    )


def _with_verdict(manifest: Manifest, verdict: object) -> Manifest:
    return replace(manifest, facts={**manifest.facts, "verdict": verdict})


def _seal(report: dict[str, Any], target: Path, manifest: Manifest) -> int:
    from verify.report import write

    canonical_json(report)  # nothing that JSON cannot hold
    with store.staging(target) as staged:
        write(report, staged)
        store.seal(staged, target, manifest)
    return _conclude(report, target)


def _conclude(report: dict[str, Any], directory: Path) -> int:
    from verify.terminal import show

    show(report)
    print(directory)
    return PASSED if report["verdict"] == "passed" else CHECK_FAILED


if __name__ == "__main__":
    raise SystemExit(command.run(main))
