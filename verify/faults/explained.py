"""Judge whether an explanation names the node that a fault was planted in: the verifier's second test."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import onnx
from tqdm import tqdm

from verify.explain.explanation import Explanation
from verify.explain.locate import Folders, Limits, explain_variant
from verify.faults.bench import Bench, failures
from verify.faults.fault import GRAPH, Fault
from verify.faults.surgery import RIGHT
from verify.faults.sweep import Finding, with_needs
from verify.run_checks import Target, interval
from verify.sandbox.pool import Pool
from verify.sandbox.worker import Worker
from verify.verdict import Result

AIM = 0.9  # share of planted nodes that explanations should name
EXACT, NEIGHBOUR, MISSED = "exact", "neighbour", "missed"


@dataclass(frozen=True)
class Score:
    """State what an explanation named for one fault in one variant.

    `exact`: a node that was planted (changed, put in, or reading a changed constant), or the one that makes what the
    fault says it makes wrong. `neighbour`: see `Explanation.hit`, or a planted node is named beside another. `declared`
    is the score by the fault's word alone.
    """

    fault: str
    variant: str
    planted: str
    score: str
    declared: str
    kind: str = "not caught"
    named: str | None = None
    tensor: str | None = None
    also: tuple[str, ...] = ()


def explain(bench: Bench, pool: Pool, faults: Mapping[str, Fault], findings: Sequence[Finding]) -> list[Score]:
    """Explain what the checks said of every fault that has a node; one that no check caught is missed here too.

    Files are judged on all cores and explained one after the other: an explanation watches the one reference.
    """
    jobs = [
        finding
        for finding in findings
        if finding.not_applicable is None
        and finding.runtime is None
        and faults[finding.fault].named(bench.ground.at) is not None
        and faults[finding.fault].place == GRAPH
    ]
    judged = pool.map(partial(_judged, bench, faults), jobs)
    told = tqdm(zip(jobs, judged, strict=True), total=len(jobs), desc="explained", mininterval=interval())
    return [_score(bench, faults[finding.fault], finding, results) for finding, results in told]


def _judged(bench: Bench, faults: Mapping[str, Fault], worker: Worker, finding: Finding) -> list[Result]:
    """The results of the checks that caught it."""
    cases = [case for case in bench.cases if case.check in with_needs(bench, finding.caught_by)]
    with _planted(bench, faults[finding.fault], finding.variant) as target:
        results = bench.examination.judge(worker, target, cases)
    return [result for result in results if result.not_run is None]


def _score(bench: Bench, entry: Fault, finding: Finding, results: Sequence[Result]) -> Score:
    variant, node = finding.variant, str(entry.named(bench.ground.at))
    if all(result.passed for result in results):
        return Score(entry.name, variant, node, MISSED, MISSED)
    bounds = Limits(bench.recipe.verify.timeout_s, bench.recipe.verify.memory_gb)
    with _planted(bench, entry, variant) as target:
        place = Folders(target.path, target.twin, target.path.parent, bounds)
        found = explain_variant(bench.examination, place, results, list(failures(results).values()))
        nodes = changed(onnx.load(bench.ground.clean(variant)), onnx.load(target.path))
    declared = found.hit(node) or MISSED
    score = Score(entry.name, variant, node, _how_well(found, nodes, declared), declared)
    return replace(score, kind=found.kind, named=found.node, tensor=found.tensor, also=found.also)


def _how_well(found: Explanation, nodes: frozenset[str], declared: str) -> str:
    if found.node in nodes:
        return EXACT
    return NEIGHBOUR if declared == MISSED and nodes.intersection(found.also) else declared


def changed(clean: onnx.ModelProto, faulty: onnx.ModelProto) -> frozenset[str]:
    """Names of the nodes that differ, or read a constant that differs: where a fault was planted.

    A node whose right result only got another name, so that a wrong one could take it, is as it was.
    """
    before = {_label(node): _plain(node) for node in clean.graph.node}
    constants = {entry.name: entry.SerializeToString() for entry in clean.graph.initializer}
    other = {e.name for e in faulty.graph.initializer if constants.get(e.name) != e.SerializeToString()}
    return frozenset(
        _label(node)
        for node in faulty.graph.node
        if before.get(_label(node)) != _plain(node) or other.intersection(node.input)
    )


def _plain(node: onnx.NodeProto) -> bytes:
    same = onnx.NodeProto()
    same.CopyFrom(node)
    for place, name in enumerate(same.output):
        same.output[place] = name.removesuffix(RIGHT)
    return bytes(same.SerializeToString())


def _label(node: onnx.NodeProto) -> str:
    return str(node.name or node.output[0])


@contextlib.contextmanager
def _planted(bench: Bench, entry: Fault, variant: str) -> Iterator[Target]:
    """The file with the fault, beside its clean twin, for a while."""
    with tempfile.TemporaryDirectory(dir=bench.scratch) as place:
        path = bench.ground.plant(entry, variant, None, Path(place) / "planted")
        yield Target(variant, path, bench.ground.clean(variant))


def figures(scores: Sequence[Score]) -> dict[str, dict[str, int]]:
    """Count how many are exact, neighbours and missed, of every variant and in all (`all`)."""
    groups = {
        variant: [s for s in scores if s.variant == variant] for variant in dict.fromkeys(s.variant for s in scores)
    }
    return {
        name: {"of": len(own), **{how: sum(s.score == how for s in own) for how in (EXACT, NEIGHBOUR, MISSED)}}
        for name, own in {**groups, "all": list(scores)}.items()
    }


def as_data(scores: Sequence[Score]) -> dict[str, Any]:
    """Scores and figures as plain data."""
    return {"aim": AIM, "figures": figures(scores), "scores": [asdict(score) for score in scores]}


def summary(found: Mapping[str, Mapping[str, int]]) -> str:
    """The figures in one line, the aim beside them."""
    told = []
    for name, own in found.items():
        near = own[EXACT] + own[NEIGHBOUR]
        share = f"{own[EXACT] / own['of']:.0%} and {near / own['of']:.0%}" if own["of"] else "none"
        told.append(f"{name}: exact {own[EXACT]}, exact or neighbour {near}, of {own['of']} ({share})")
    return f"planted nodes named: {'; '.join(told)}; the aim is {AIM:.0%}"
