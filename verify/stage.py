"""State what is judged against what: built variants with their lineage, or any single file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import onnx

from model import architecture, checkpoint
from pipeline import variants
from pipeline.artifact import lineage, store
from pipeline.canonical import digest, file_digest, read_json
from pipeline.command import invocation, say
from pipeline.errors import ArtifactError, InputError
from pipeline.recipe.recipe import Recipe
from verify import assumed
from verify.candidate.session import Cached
from verify.candidate.untrusted import external
from verify.candidate.untrusted.inspector import Inspector
from verify.check import load
from verify.checks.tokenizer import beside
from verify.environment import environment
from verify.interop import planned
from verify.interop.planned import NO_FILES, NOT_THIS_TIME, NotRun, Planned
from verify.report import history
from verify.run import Manner, Order, Report, judge, making, manifest_of, with_verdict
from verify.run_checks import Target

ONNX = "onnx"  # the origin of a reference that is an ONNX file: a report about it is never published
NO_CHECKPOINT = "not applicable: the reference is an ONNX file, and there is no checkpoint"
NOT_THERE = "left out by --processor: it runs on this machine's own"


def built(recipe: Recipe, chosen: Sequence[str] | None, home: Path, manner: Manner) -> tuple[Report, Path]:
    """Judge the built variants (or those chosen); the report and its directory.

    Raises ArtifactError for an artifact that is missing, altered, or not what the recipe and its parents now say.
    """
    origin, artifacts = lineage.open_built(recipe, chosen, home)
    known = recipe.files
    targets = [t for variant, artifact in artifacts.items() for t in _own(recipe, variant, artifact)]
    programs = planned.plan(recipe, [target.variant for target in targets], bounded=_bounded(manner))
    asked = programs if manner.runtimes else ()
    place = {**environment(manner.emulator), "runtimes": planned.versions(asked)}
    parents = {"source": origin.digest, **{variant: artifact.digest for variant, artifact in artifacts.items()}}
    missing = [variant for variant in known if variant not in artifacts]
    whole = not missing and manner.runtimes
    wanted = manifest_of(recipe, origin.manifest.source, parents, place, manner, complete=whole)
    # On another processor: beside the report that publish reads, and no run of its history.
    target = home / ("report" if manner.emulator is None else f"report-{manner.emulator.name}")
    past = history.read(home / history.FILE) if manner.emulator is None else None
    # Only a pass is kept: a failure is tried again, for it may have been a time-out.
    done = store.up_to_date(target, with_verdict(wanted, "passed"))
    if done is not None:
        say("report: unchanged")
        made = read_json(target / "report.json")
        if past is not None:
            _remember(home, made, done, unless=past)
        return made, target
    header = {
        "source": {**origin.manifest.source, "digest": origin.digest},
        "complete": whole,
        "not_judged": missing,
        "not_run": [asdict(entry) for entry in _left_out(programs, manner)],
        "environment": place,
        "notices": lineage.warnings(artifacts),
    }
    checks = [name for name in recipe.verify.checks if not needs_twin(name) or not all(t.own_twin for t in targets)]
    order = Order(origin.path, targets, checks, target, manner, past, asked)
    made, artifact = judge(recipe, order, {**header, "parents": parents}, wanted)
    if past is not None:
        _remember(home, made, artifact)
    return made, target


def _own(recipe: Recipe, variant: str, artifact: store.Artifact) -> Iterator[Target]:
    """The variant's graph; and if it has one in place, that beside the first, which must give the same results."""
    first, *second = (_target(name, artifact.path / variants.model_file(name)) for name in recipe.graphs(variant))
    yield replace(first, own_twin=True)
    yield from (replace(target, twin=first.path) for target in second)


def _target(variant: str, path: Path) -> Target:
    """Return a file to judge, with those beside it that hold numbers of its graph."""
    return Target(variant, path, data=external.files(onnx.load(path, load_external_data=False), path.parent))


@dataclass(frozen=True)
class Against:
    """State what a foreign file is held against: a checkpoint's directory, or an ONNX file with such a directory."""

    directory: Path
    source: Mapping[str, Any]  # as the report names it
    graph: Path | None = None


def against_checkpoint(recipe: Recipe, directory: Path | None, home: Path) -> Against:
    """The checkpoint in a directory, or the built source."""
    if directory is None:
        origin = store.open_artifact(home / "source", made_by=invocation("convert", recipe.path, home.parent))
        return Against(origin.path, {**origin.manifest.source, "digest": origin.digest})
    weights = checkpoint.inspect(directory, allow_pickle=recipe.source.allow_pickle).weight_files
    content = digest({name: file_digest(directory / name) for name in weights})
    return Against(directory, {"origin": "directory", "digest": content})


def against_graph(graph: Path, directory: Path | None, path: Path) -> Against:
    """An ONNX file, with the config and tokenizer of `directory`, or of those that lie beside either file.

    Raises InputError for what is no usable ONNX model, and where there is no config.
    """
    inspect(graph, "--reference")
    place = directory or beside(graph) or beside(path)
    if place is None:
        hint = "name the directory with the model's config.json and tokenizer with --source"
        raise InputError("no config.json lies beside the reference, nor beside the candidate", where=graph, hint=hint)
    return Against(place, {"origin": ONNX, "file": graph.name, "digest": file_digest(graph)}, graph)


def candidate(recipe: Recipe, target: Target, held: Against, home: Path, manner: Manner) -> tuple[Report, Path]:
    """Judge any ONNX file by a variant's tolerances, against a checkpoint or another ONNX file.

    Raises InputError for what is no usable ONNX model (verify.candidate.untrusted); what can be read is judged.
    """
    path, variant = target.path, target.variant
    programs = planned.plan(recipe, [variant], bounded=_bounded(manner))
    not_run = _not_applicable(recipe.verify.checks, path, held)
    for entry in not_run:
        say(f"{entry.what}: NOT RUN: {entry.reason}; the verdict is on the rest")
    checks = [check for check in recipe.verify.checks if check not in {entry.what for entry in not_run}]
    directory, source = held.directory, held.source
    beside_it = next((twin(recipe, variant, home, directory, check) for check in checks if needs_twin(check)), None)
    reason = NO_FILES if beside(path) is None else NO_CHECKPOINT if held.graph is not None else None
    if reason is not None or not manner.runtimes:
        not_run += _left_out(programs, manner) if reason is None else planned.left_out(programs, reason)
        programs = ()
    place = {**environment(manner.emulator), "runtimes": planned.versions(programs)}
    skipped = [asdict(entry) for entry in not_run]
    header: dict[str, Any] = {"source": source, "complete": False, "not_judged": [], "not_run": skipped}
    header |= {"environment": place, "notices": [assumed.NOTICE] if manner.assumed else []}
    manifest = manifest_of(recipe, source, {}, place, manner, complete=False)
    targets = [replace(_target(variant, path), twin=beside_it, cached=_cached(directory))]
    order = Order(directory, targets, checks, home / "candidate-report", manner, None, programs, held.graph)
    made, artifact = judge(recipe, order, {**header, "parents": {}}, manifest)
    return made, artifact.path


def _cached(directory: Path) -> Cached | None:
    """Heads of keys and values, and the width of one, by a checkpoint's config; None where there is none."""
    where = directory / "config.json"
    if not where.is_file():
        return None
    _, dims = architecture.of_config(checkpoint.read_config(where), where)
    return dims.kv_heads, dims.head_dim


def inspect(path: Path, option: str) -> None:
    """Read a file that an option of the command line names; InputError for what is no usable ONNX model."""
    if not path.is_file():
        raise InputError("not a file", where=path, hint=f"name an ONNX file with {option}")
    if any(0xD800 <= ord(letter) <= 0xDFFF for letter in str(path)):  # how Python keeps bytes that are no UTF-8
        hint = "give it, and the directories above it, names in UTF-8: onnx and onnxruntime open no others"
        raise InputError("the path is not UTF-8", where=ascii(str(path)), hint=hint)
    with Inspector() as inspector:
        inspector.inspect(path)


def _not_applicable(checks: Sequence[str], path: Path, held: Against) -> list[NotRun]:
    """The checks that have nothing to hold such a file against, and why; first PyTorch itself, if it is not asked."""
    reasons: dict[str, str] = {}
    if held.graph is not None:
        reasons = {"modules": NO_CHECKPOINT, "twin": NO_CHECKPOINT}
    if beside(path) is None:
        reasons["files"] = "no tokenizer or config lies beside the candidate"
    elif held.graph is not None and beside(path) == held.directory.resolve():
        reasons["files"] = "the files beside the candidate are those that the reference is read with"
    found = [NotRun(check, reasons[load(check).JUDGES]) for check in checks if load(check).JUDGES in reasons]
    if held.graph is not None:
        found.insert(0, NotRun("the reference itself", f"{held.graph.name} was not held against PyTorch"))
    return found


def needs_twin(check: str) -> bool:
    """Return whether a check looks at a file beside the built variant."""
    return load(check).JUDGES == "twin"


def twin(recipe: Recipe, variant: str, home: Path, source: Path, check: str) -> Path | None:
    """The graph of the built variant, if it is intact, this recipe's, and made from this checkpoint; says why not."""
    try:
        origin, artifacts = lineage.open_built(recipe, [variant], home)
    except ArtifactError as error:
        say(f"{check}: NOT RUN: no {variant} of this recipe is built to compare with: {error.what}")
        return None
    for name in checkpoint.inspect(origin.path, allow_pickle=recipe.source.allow_pickle).weight_files:
        if not (source / name).is_file() or file_digest(source / name) != file_digest(origin.path / name):
            say(f"{check}: NOT RUN: the built {variant} comes from another checkpoint than {source}")
            return None
    return artifacts[variant].path / variants.model_file(variant)


def _bounded(manner: Manner) -> bool:
    """Return whether the runtimes' figures need tolerances: not where bounds are measured and no runtime is run."""
    return manner.runtimes or not manner.measuring


def _left_out(programs: Sequence[Planned], manner: Manner) -> list[NotRun]:
    """The runtimes that the command line leaves out."""
    reason = NOT_THIS_TIME if manner.emulator is None else NOT_THERE
    return [] if manner.runtimes else planned.left_out(programs, reason)


def _remember(home: Path, made: Report, artifact: store.Artifact, *, unless: Sequence[history.Run] = ()) -> None:
    """Add the run to the recipe's history, once: a run killed before this line is added by the next one."""
    if all(run.report != artifact.digest for run in unless):
        history.append(home / history.FILE, history.run_of(made, artifact.digest, making(artifact.manifest)))
