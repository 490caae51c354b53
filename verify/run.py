"""One judgement: candidates against the reference by the recipe's checks and runtimes, and the report's artifact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.artifact import store
from pipeline.artifact.manifest import Manifest
from pipeline.canonical import digest, file_digest
from pipeline.command import say
from pipeline.errors import InputError
from pipeline.plugins import ROOT, code_of
from pipeline.recipe.recipe import Recipe
from verify import run_checks, verdict
from verify.bounds.notices import notices
from verify.emulation.emulator import Emulator
from verify.interop import run_runtimes
from verify.interop.planned import NotRun, Planned
from verify.layers.measure import measure, not_finite
from verify.reference.corpus import Corpus, read_text
from verify.report import document, forms, history
from verify.run_checks import Examination, Target
from verify.verdict import Result

if TYPE_CHECKING:  # torch takes seconds to load
    from verify.reference.model import Reference

Report = dict[str, Any]


@dataclass(frozen=True)
class Manner:
    """State what is asked for beside the verdict."""

    measuring: bool = False  # figures may lack a tolerance: they are measured, and fail
    runtimes: bool = True  # False: the recipe's runtimes are left out, and the report is incomplete
    explain: bool = False  # where the fault of each failed variant is
    emulator: Emulator | None = None  # of another processor, which the checks are run on


@dataclass(frozen=True)
class Order:
    """One judgement: the reference's checkpoint, the candidates, the checks, and where the report goes."""

    source: Path
    targets: Sequence[Target]
    checks: Sequence[str]
    directory: Path
    manner: Manner
    past: Sequence[history.Run] | None = None  # the recipe's runs so far; None for a file that is none of them
    runtimes: Sequence[Planned] = ()


def judge(recipe: Recipe, order: Order, header: Mapping[str, Any], manifest: Manifest) -> tuple[Report, store.Artifact]:
    """Judge, write the report's artifact, and return the report and the artifact."""
    examination, before = _load(recipe, order)
    with store.staging(order.directory) as staged:
        found = _run(examination, order, before, staged)
        made = _report(examination, order, found, header, manifest)
        if order.manner.explain and made["verdict"] != "passed":
            made["explanations"] = _explain(examination, order, found, made, staged)
        return made, _seal(made, order, manifest, staged)


@dataclass(frozen=True)
class _Found:
    """Hold what checks and runtimes said, and which of them were not run."""

    checks: Sequence[Result]
    runtimes: Sequence[Result]
    left: Sequence[NotRun]  # checks that had nothing to say about a file
    not_asked: Sequence[NotRun]  # runtimes
    layers: Mapping[str, Any]  # how far each module is from the reference's
    candidates: Sequence[Mapping[str, Any]]


def _load(recipe: Recipe, order: Order) -> tuple[Examination, list[str]]:
    """Refuse at once what cannot be judged, then load the reference (seconds); with the candidates' digests."""
    modules = run_checks.plan(recipe, order.checks)
    settings = run_checks.settings_of(recipe, modules)
    variants = [target.variant for target in order.targets]
    verdict.require_tolerances(recipe, modules, variants, measuring=order.manner.measuring)
    read_text(recipe.text_path)
    before = [file_digest(target.path) for target in order.targets]

    from verify.reference.model import Reference  # after what is refused: torch takes seconds to load

    say("verify: loading the reference")
    reference = Reference(order.source, allow_pickle=recipe.source.allow_pickle)
    _check_expected(recipe, reference, order.source)
    corpus = Corpus(recipe.text_path, reference.tokenizer, recipe.verify.seed)
    return Examination(recipe, reference, corpus, modules, settings, order.manner.emulator), before


def _run(examination: Examination, order: Order, before: Sequence[str], staged: Path) -> _Found:
    """Run the checks, ask the runtimes, compare the modules; `before`: digests that the candidates must still have."""
    found = examination.run(order.targets, staged)
    results = [result for result in found if result.not_run is None]
    left = {result.check: NotRun(result.check, result.not_run) for result in found if result.not_run is not None}
    for entry in left.values():
        say(f"{entry.what}: NOT RUN: {entry.reason}")
    part = examination
    asked = run_runtimes.examine(part.recipe, order.runtimes, part.reference, part.corpus, order.targets)
    layers = measure(examination, order.targets, results, staged)
    candidates = _candidates(order.targets, before)
    return _Found(results, asked.results, tuple(left.values()), asked.not_run, layers, candidates)


def _report(
    examination: Examination, order: Order, found: _Found, header: Mapping[str, Any], manifest: Manifest
) -> Report:
    """The report's document, without explanations."""
    recipe = examination.recipe
    not_run = [asdict(entry) for entry in (*found.left, *found.not_asked)]
    about = {
        "name": recipe.name,
        "recipe": manifest.recipe,
        **{name: value for name, value in header.items() if name != "parents"},
        "complete": header["complete"] and not found.left,
        "not_run": [*header["not_run"], *not_run],
        "notices": [],
        "history": None,
        "explanations": [],
        "layers": found.layers,
        "reproduce": _reproduce(recipe, order, header, manifest.code),
        "candidates": found.candidates,
        "seed": recipe.verify.seed,
        "settings": {name: asdict(table) for name, table in examination.settings.items()},
        "text": {"sha256": file_digest(recipe.text_path), "tokens": len(examination.corpus.ids)},
    }
    made = document.document([*found.checks, *found.runtimes, *not_finite(found.layers)], about)
    made["notices"] = notices(recipe, made)
    if order.past is not None:
        made["history"] = history.compare(history.run_of(made, "", making(manifest)), order.past)
    return made


def _explain(examination: Examination, order: Order, found: _Found, made: Report, staged: Path) -> list[dict[str, Any]]:
    """Find where the fault of each failed variant is."""
    from verify.explain.failed_variants import explain_all

    return explain_all(examination, order, found.checks, made, staged)


def _seal(made: Report, order: Order, manifest: Manifest, staged: Path) -> store.Artifact:
    """Write the report in all forms, and its manifest with the verdict."""
    forms.write(made, staged)
    facts = {**manifest.facts, "complete": made["complete"]}  # a check that did not apply leaves it incomplete
    return store.seal(staged, order.directory, with_verdict(replace(manifest, facts=facts), made["verdict"]))


def _candidates(targets: Sequence[Target], before: Sequence[str]) -> list[dict[str, Any]]:
    """The files that were judged. InputError if one has another digest than `before`."""
    for target, wanted in zip(targets, before, strict=True):
        if file_digest(target.path) != wanted:
            raise InputError("the file changed while it was judged", where=target.path, hint="verify it again")
    return [
        {"variant": target.variant, "file": target.path.name, "bytes": target.path.stat().st_size, "sha256": sha256}
        for target, sha256 in zip(targets, before, strict=True)
    ]


def _reproduce(recipe: Recipe, order: Order, header: Mapping[str, Any], code: str) -> dict[str, Any]:
    """The commands that make this report again, and the digests that must then be the same."""
    path = recipe.path.resolve()
    shown = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name
    variants = [target.variant for target in order.targets]
    if not header["parents"]:
        commands = [f"python -m verify {shown} --candidate {order.targets[0].path.name} --variant {variants[0]}"]
    else:
        source = " --source DIR" if header["source"].get("origin") == "directory" and not recipe.source.path else ""
        quantized = [variant for variant in variants if variant != "fp32"]
        commands = [f"python -m convert {shown}{source}"]
        for stage, names in (("quantize", quantized), ("verify", variants)):
            chosen = f" --variant {' '.join(names)}" if header["not_judged"] else ""
            commands += [f"python -m {stage} {shown}{chosen}"] if names else []
    if order.manner.emulator is not None:
        commands[-1] += f" --processor {order.manner.emulator.name}"
    return {"commands": commands, "code": code, "parents": header["parents"]}


def _check_expected(recipe: Recipe, reference: Reference, where: Path) -> None:
    """The checkpoint that a foreign file is judged against must be the one that the recipe describes."""
    have = asdict(reference.dimensions)
    for field, wanted in asdict(recipe.source.expect).items():
        if wanted is not None and field in have and have[field] != wanted:
            hint = f"the recipe's source.expect says {wanted!r}; name that checkpoint with --source"
            raise InputError(f"{field} of the source is {have[field]!r}", where=where, hint=hint)


def manifest_of(
    recipe: Recipe, source: Mapping[str, Any], parents: Mapping[str, str], place: Mapping[str, Any], *, complete: bool
) -> Manifest:
    """The report's manifest, without its files and verdict. RecipeError when the text cannot be read."""
    return Manifest(
        kind="report",
        name=recipe.name,
        variant="report",
        source=source,
        recipe=recipe.verdict_digest,
        code=code_of("verify"),
        parents=parents,
        tools=place["packages"],
        facts={"complete": complete, "environment": digest(place)},
    )


def with_verdict(manifest: Manifest, outcome: str) -> Manifest:
    """The manifest of a report that came to `outcome`: "passed" or "failed"."""
    return replace(manifest, facts={**manifest.facts, "verdict": outcome})


def making(manifest: Manifest) -> str:
    """Digest of what a report is made from: the manifest without its result."""
    facts = {name: value for name, value in manifest.facts.items() if name != "verdict"}
    return digest(asdict(replace(manifest, files=(), facts=facts)))
