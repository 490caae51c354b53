"""One judgement: candidates against the reference by the recipe's checks and runtimes, and the report's artifact."""

from __future__ import annotations

import contextlib
import shlex
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
from verify import prompting, run_checks, verdict
from verify.bounds.notices import notices
from verify.emulation.emulator import Emulator
from verify.interop import run_runtimes
from verify.interop.planned import NotRun, Planned
from verify.layers.measure import measure, not_finite
from verify.prompting import OnPrompts
from verify.reference.corpus import Corpus, read_text
from verify.reference.prompts import PromptFile
from verify.report import document, forms, history
from verify.run_checks import Examination, Known, Target
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
    prompts: PromptFile | None = None  # of the user's own, which the checks are asked about beside the recipe's text
    assumed: bool = False  # the recipe was not given: verify made it for this file


@dataclass(frozen=True)
class Order:
    """One judgement: the reference's checkpoint, the candidates, the checks, and where the report goes."""

    source: Path  # of an ONNX file as the reference, where its config and tokenizer are
    targets: Sequence[Target]
    checks: Sequence[str]
    directory: Path
    manner: Manner
    past: Sequence[history.Run] | None = None  # the recipe's runs so far; None for a file that is none of them
    runtimes: Sequence[Planned] = ()
    graph: Path | None = None  # an ONNX file, which is the reference in the place of the checkpoint


def judge(recipe: Recipe, order: Order, header: Mapping[str, Any], manifest: Manifest) -> tuple[Report, store.Artifact]:
    """Judge, write the report's artifact, and return the report and the artifact."""
    with contextlib.ExitStack() as stack:
        examination, before = _load(recipe, order, stack)
        given = order.manner.prompts
        own = None if given is None else OnPrompts.of(examination, given)
        staged = stack.enter_context(store.staging(order.directory))
        found = _run(examination, own, order, before, staged)
        made = _report(examination, order, found, header, manifest)
        if order.manner.explain and made["verdict"] != "passed":
            failing = [(examination, found.checks), *([] if own is None else [(own, found.prompts)])]
            made["explanations"] = _explain(failing, order, made, staged)
        return made, _seal(made, order, manifest, staged)


@dataclass(frozen=True)
class _Found:
    """Hold what checks and runtimes said, and which of them were not run."""

    checks: Sequence[Result]
    prompts: Sequence[Result]  # of the checks, on prompts of the user's own
    runtimes: Sequence[Result]
    left: Sequence[NotRun]  # checks that had nothing to say about a file
    not_asked: Sequence[NotRun]  # runtimes
    layers: Mapping[str, Any]  # how far each module is from the reference's
    candidates: Sequence[Mapping[str, Any]]


def _load(recipe: Recipe, order: Order, stack: contextlib.ExitStack) -> tuple[Examination, list[str]]:
    """Refuse at once what cannot be judged, then load the reference (seconds); with the files' digests.

    What the reference holds open is closed with the stack.
    """
    modules = run_checks.plan(recipe, order.checks)
    settings = run_checks.settings_of(recipe, modules)
    variants = [target.variant for target in order.targets]
    verdict.require_tolerances(recipe, modules, variants, measuring=order.manner.measuring)
    read_text(recipe.text_path)
    before = [file_digest(path) for path in _files(order)]
    say("verify: loading the reference")
    reference = _reference(recipe, order, stack)
    _check_expected(recipe, reference, order.source)
    corpus = Corpus(recipe.text_path, reference.tokenizer, recipe.verify.seed)
    return Examination(recipe, reference, corpus, modules, settings, order.manner.emulator), before


def _files(order: Order) -> list[Path]:
    """The ONNX files of a judgement: the candidates, the reference if it is one, and the candidates' data files."""
    graphs = [*(target.path for target in order.targets), *([] if order.graph is None else [order.graph])]
    return [*graphs, *(path for target in order.targets for path in target.data)]


def _reference(recipe: Recipe, order: Order, stack: contextlib.ExitStack) -> Reference:
    """The checkpoint in PyTorch, or the ONNX file that stands for it."""
    if order.graph is None:
        from verify.reference.model import Reference  # after what is refused: torch takes seconds to load

        return Reference(order.source, allow_pickle=recipe.source.allow_pickle, context=recipe.verify.context)
    from verify.reference.graph import GraphProcess, GraphReference

    process = stack.enter_context(GraphProcess(order.graph, recipe.verify))
    candidates = tuple(target.path for target in order.targets)
    return GraphReference(process, order.source, candidates, recipe.verify.context)


def _run(examination: Examination, own: OnPrompts | None, order: Order, before: Sequence[str], staged: Path) -> _Found:
    """Run the checks, ask the runtimes, compare the modules; `before`: digests that the files must still have."""
    known: Known = {}
    found = examination.run(order.targets, staged, known)
    prompts = [] if own is None else own.run(order.targets, staged, known)
    results = [result for result in found if result.not_run is None]
    left = {result.check: NotRun(result.check, result.not_run) for result in found if result.not_run is not None}
    for entry in left.values():
        say(f"{entry.what}: NOT RUN: {entry.reason}")
    recipe, reference, corpus = examination.recipe, examination.reference, examination.corpus
    asked = run_runtimes.examine(recipe, order.runtimes, reference, corpus, order.targets)
    layers = measure(examination, order.targets, results, staged)
    _require_unchanged(order, before)
    candidates = _candidates(order.targets, before[: len(order.targets)])
    return _Found(results, prompts, asked.results, tuple(left.values()), asked.not_run, layers, candidates)


def _report(
    examination: Examination, order: Order, found: _Found, header: Mapping[str, Any], manifest: Manifest
) -> Report:
    """The report's document, without explanations."""
    recipe = examination.recipe
    not_run = [asdict(entry) for entry in (*found.left, *found.not_asked)]
    given = order.manner.prompts
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
        "prompts": None if given is None else given.table(),
    }
    made = document.document([*found.checks, *found.runtimes, *not_finite(found.layers)], about, found.prompts)
    made["notices"] = [
        *header["notices"],
        *notices(recipe, made),
        *_shortened(examination.reference),
        *([] if given is None else prompting.notices(found.prompts, given)),
    ]
    if order.past is not None:
        made["history"] = history.compare(history.run_of(made, "", making(manifest)), order.past)
    return made


def _shortened(reference: Reference) -> list[str]:
    """Say that texts as long as the model's context were not run, where the recipe has it so."""
    judged, own = reference.context, reference.dimensions.context
    return [f"texts of at most {judged} of the model's {own} positions were judged (verify.context)"][: own > judged]


def _explain(
    failing: Sequence[tuple[Examination, Sequence[Result]]], order: Order, made: Report, staged: Path
) -> list[dict[str, Any]]:
    """Find where the fault of each failed variant is."""
    from verify.explain.failed_variants import explain_all

    return explain_all(failing, order, made, staged)


def _seal(made: Report, order: Order, manifest: Manifest, staged: Path) -> store.Artifact:
    """Write the report in all forms, and its manifest with the verdict."""
    forms.write(made, staged)
    facts = {**manifest.facts, "complete": made["complete"]}  # a check that did not apply leaves it incomplete
    return store.seal(staged, order.directory, with_verdict(replace(manifest, facts=facts), made["verdict"]))


def _require_unchanged(order: Order, before: Sequence[str]) -> None:
    """InputError if a file has another digest than `before`."""
    for path, wanted in zip(_files(order), before, strict=True):
        if file_digest(path) != wanted:
            raise InputError(
                "the file changed while it was judged", where=path, hint="let nothing write there, and run verify again"
            )


def _candidates(targets: Sequence[Target], before: Sequence[str]) -> list[dict[str, Any]]:
    """The files that were judged, each with its digest."""
    return [
        {
            "variant": target.variant,
            "file": target.path.name,
            "bytes": sum(path.stat().st_size for path in (target.path, *target.data)),
            "sha256": sha256,
        }
        for target, sha256 in zip(targets, before, strict=True)
    ]


def _reproduce(recipe: Recipe, order: Order, header: Mapping[str, Any], code: str) -> dict[str, Any]:
    """The commands that make this report again, and the digests that must then be the same."""
    path = recipe.path.resolve()
    shown = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name
    variants = [target.variant for target in order.targets]
    if not header["parents"]:
        commands = [f"python -m verify {shown} --candidate {order.targets[0].path.name} --variant {variants[0]}"]
        commands[0] += "" if order.graph is None else f" --reference {order.graph.name} --source DIR"
    else:
        source = " --source DIR" if header["source"].get("origin") == "directory" and not recipe.source.path else ""
        quantized = [variant for variant in variants if variant != "fp32"]
        commands = [f"python -m convert {shown}{source}"]
        for stage, names in (("quantize", quantized), ("verify", variants)):
            chosen = f" --variant {' '.join(names)}" if header["not_judged"] else ""
            commands += [f"python -m {stage} {shown}{chosen}"] if names else []
    if order.manner.emulator is not None:
        commands[-1] += f" --processor {order.manner.emulator.name}"
    if order.manner.prompts is not None:
        commands[-1] += f" --prompts {shlex.quote(order.manner.prompts.path.name)}"
    return {"commands": commands, "code": code, "parents": header["parents"]}


def _check_expected(recipe: Recipe, reference: Reference, where: Path) -> None:
    """The checkpoint that a foreign file is judged against must be the one that the recipe describes."""
    have = asdict(reference.dimensions)
    for field, wanted in asdict(recipe.source.expect).items():
        if wanted is not None and field in have and have[field] != wanted:
            hint = f"the recipe's source.expect says {wanted!r}; name that checkpoint with --source"
            raise InputError(f"{field} of the source is {have[field]!r}", where=where, hint=hint)


def manifest_of(  # noqa: PLR0913
    recipe: Recipe,
    source: Mapping[str, Any],
    parents: Mapping[str, str],
    place: Mapping[str, Any],
    manner: Manner,
    *,
    complete: bool,
) -> Manifest:
    """The report's manifest, without its files and verdict. RecipeError when the text cannot be read."""
    own = {} if manner.prompts is None else {"prompts": manner.prompts.sha256}
    return Manifest(
        kind="report",
        name=recipe.name,
        variant="report",
        source=source,
        recipe=recipe.verdict_digest,
        code=code_of("verify"),
        parents=parents,
        tools=place["packages"],
        facts={"complete": complete, "environment": digest(place), **own},
    )


def with_verdict(manifest: Manifest, outcome: str) -> Manifest:
    """The manifest of a report that came to `outcome`: "passed" or "failed"."""
    return replace(manifest, facts={**manifest.facts, "verdict": outcome})


def making(manifest: Manifest) -> str:
    """Digest of what a report is made from: the manifest without its result."""
    facts = {name: value for name, value in manifest.facts.items() if name != "verdict"}
    return digest(asdict(replace(manifest, files=(), facts=facts)))
