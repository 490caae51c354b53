"""Time the same passes of several files in turns, each file in a process of its own."""

from __future__ import annotations

import contextlib
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import report
from benchmarks.engines.ours import SESSION
from benchmarks.graphs import shown, unusable
from benchmarks.progress import progress
from benchmarks.remote import Remote, RemoteError, settle
from benchmarks.scenario import Scenario
from benchmarks.schedule import turns
from benchmarks.subject import MeasuredEngine
from verify.sandbox.spawned import Python

TURN_S = 300.0
SCENARIOS = (
    Scenario("decode after 64", "decode", 64, steps=64),
    Scenario("decode after 900", "decode", 900, steps=64),
    Scenario("prefill of 128", "prefill", 128, repeats=8),
    Scenario("prefill of 768", "prefill", 768, repeats=2),
)


@dataclass(frozen=True)
class Timed:
    """One file: the seconds of every round, by scenario."""

    path: Path
    seconds: dict[str, list[float]]


def compare(
    paths: Sequence[Path], rounds: int, threads: int, scenarios: Sequence[Scenario], python: Python | None = None
) -> list[Timed]:
    """Time every scenario in every round, each round beginning with another file.

    `python` runs them, if not this one. Raises InputError for a file that onnxruntime does not load or run.
    """
    text = np.zeros(max(scenario.length for scenario in scenarios), np.int64)  # which tokens they are changes no time
    with contextlib.ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        remotes: list[Remote] = []
        timed = [Timed(path, {scenario.name: [] for scenario in scenarios}) for path in paths]
        for number, path in enumerate(paths):
            remote = Remote(logs / f"{number}.txt", MeasuredEngine, SESSION, path.name, path, threads, python=python)
            remotes.append(stack.enter_context(remote))
            _call(remote, path, "load")
        plan = [(number, scenario) for number in range(rounds) for scenario in scenarios]
        for number, scenario in progress("rounds", plan, len(plan)):
            for place in turns(range(len(paths)), number):
                settle(remote.pid for remote in remotes)
                found = _call(remotes[place], paths[place], "measure", scenario, text)
                timed[place].seconds[scenario.name].append(found)
    return timed


def table(timed: Sequence[Timed], scenarios: Sequence[Scenario]) -> str:
    """Return Markdown: milliseconds a pass and the speed over the first file's, medians; range of the ratios."""
    first, *others = timed
    heads = ["pass", f"{shown(first.path)}, ms", *(f"{shown(entry.path)}: speed over the first's" for entry in others)]
    rows = []
    for scenario in scenarios:
        base = first.seconds[scenario.name]
        calls = scenario.steps or scenario.repeats
        row = [scenario.name, f"{statistics.median(base) / calls * 1e3:.2f}"]
        for entry in others:
            ratios = [a / b for a, b in zip(base, entry.seconds[scenario.name], strict=True)]
            row.append(f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")
        rows.append(row)
    return "\n".join(report.table(heads, rows))


def _call(remote: Remote, path: Path, method: str, *arguments: object) -> float:
    try:
        return float(remote.call(method, *arguments, timeout_s=TURN_S))
    except RemoteError as error:
        raise unusable(error, path) from error
