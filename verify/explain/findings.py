"""Probe the calls of a failing input one after the other, until one has a node that deviates."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from verify.explain import truth
from verify.explain.blame import Blame, blame, is_twin, known_tensors
from verify.explain.failure import Failure, Trial
from verify.sandbox.worker import CandidateError

PROBE = "verify.explain.probe"
MOST_CALLS = 16  # calls probed, the first ones; a minimised input rarely has more than three


@dataclass(frozen=True)
class Limits:
    """State what a foreign graph may take: seconds for one answer, GiB of address space."""

    timeout_s: float
    memory_gb: float


@dataclass(frozen=True)
class Folders:
    """Say where the candidate and its clean twin lie, with a directory for what passes between processes."""

    candidate: Path
    baseline: Path | None
    scratch: Path
    bounds: Limits


@dataclass
class Findings:
    """Hold what the probes of an input's calls said."""

    blame: Blame | None = None
    step: int | None = None
    layers: list[dict[str, Any]] = field(default_factory=list)
    constants: list[dict[str, Any]] = field(default_factory=list)
    stopped: str | None = None
    twin: bool = True
    mode: str = ""


def probe(trial: Trial, place: Folders, failure: Failure) -> Findings:
    """Probe call after call, until one has a node that deviates."""
    found = Findings()
    for keep, mode in itertools.product(failure.keeps, _modes(failure)):
        for number, table in probes(trial, place, failure, (keep, mode)):
            found.constants = found.constants or table.get("constants", [])
            if "error" in table:
                found.stopped = table["error"]
                return found
            found.twin, found.layers = is_twin(table["nodes"]), known_tensors(table["nodes"])
            found.blame = blame(table["nodes"])
            if found.blame is not None:
                found.step, found.mode = number, mode
                return found
    return found


def _modes(failure: Failure) -> Iterator[str]:
    """Ways to look at the graph: rows beside themselves alone, as it is, and as the failing level optimizes it."""
    if failure.figure == "batch_dependence":
        yield "rows_alone"
    yield ""
    if failure.level != "disable_all":
        yield "optimized"


def probes(
    trial: Trial, place: Folders, failure: Failure, way: tuple[int, str] = (0, "")
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield what `verify.explain.probe` says of each call, or {"error": ...}; `way`: the logits to keep, and a mode."""
    keep, mode = way
    with tempfile.TemporaryDirectory(dir=place.scratch) as home:
        directory = Path(home)
        truth.save_parameters(trial.reference, directory / "parameters")
        for number, case in enumerate(truth.calls(trial.reference, failure.input, min(keep, failure.input.pieces[-1]))):
            if number == MOST_CALLS:
                return
            more: dict[str, Any] = {"parameters": str(directory / "parameters"), "baseline": str(place.baseline or "")}
            more |= {name: name == mode for name in ("optimized", "rows_alone")}
            case.facts.update(more)  # type: ignore[attr-defined]  # made by `calls`, a dictionary of its own
            case.save(directory / f"{number}")
            try:
                yield number, trial.worker.judge(PROBE, directory / f"{number}")
            except CandidateError as error:
                yield number, {"error": str(error)}
