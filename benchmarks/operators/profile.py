"""Run passes under onnxruntime's profiler and add up what its events say."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnxruntime.capi.onnxruntime_pybind11_state import (
    Fail,
    InvalidArgument,
    InvalidGraph,
    InvalidProtobuf,
    NotImplemented,  # noqa: A004  # onnxruntime's name for an operator without a kernel
    RuntimeException,
)

from benchmarks import report
from benchmarks.graphs import unusable
from model.contract import CACHE_IN, LOGITS_TO_KEEP
from model.session import open_session, options

KERNEL = "_kernel_time"
# What onnxruntime raises for a file that it cannot load, or whose inputs are others (ValueError).
REFUSALS = (Fail, InvalidArgument, InvalidGraph, InvalidProtobuf, NotImplemented, RuntimeException, ValueError)


@dataclass(frozen=True)
class Pass:
    """State what is run: `tokens` after a cache of `past`, `steps` times."""

    past: int
    tokens: int
    steps: int


@dataclass(frozen=True)
class Profile:
    """One file: microseconds and number of nodes by operator, and of a whole pass; medians over the passes."""

    name: str
    operators: dict[str, tuple[float, int]]
    step: float


def profile(path: Path, work: Pass, threads: int) -> Profile:
    """Run the same pass again and again; the last position's logits only, where the graph offers that.

    The profiler's own cost, some microseconds a node, is in every figure. InputError for a file that onnxruntime does
    not load, or that is no decoder with past key values.
    """
    with tempfile.TemporaryDirectory() as scratch:
        profiled = options(threads=threads)
        profiled.enable_profiling = True
        profiled.profile_file_prefix = f"{scratch}/profile"
        try:
            session = open_session(path, profiled)
            feeds = _feeds(session, work)
            for _ in range(work.steps):
                session.run(None, feeds)
        except REFUSALS as error:
            raise unusable(error, path) from error
        events = json.loads(Path(session.end_profiling()).read_bytes())
    return Profile(path.parent.parent.name, *_summed(events))


def table(profiles: list[Profile]) -> str:
    """Markdown: operators by their time in the first file, a column for each file."""
    kinds = {kind for entry in profiles for kind in entry.operators}
    order = sorted(kinds, key=lambda kind: [-entry.operators.get(kind, (0.0, 0))[0] for entry in profiles])
    rows = [[kind, *(_cell(entry.operators.get(kind)) for entry in profiles)] for kind in order]
    nodes = [sum(count for _, count in entry.operators.values()) for entry in profiles]
    rows.append(["**whole pass**", *(f"{e.step:.0f} µs, {n} nodes" for e, n in zip(profiles, nodes, strict=True))])
    return "\n".join(report.table(("operator", *(entry.name for entry in profiles)), rows))


def _summed(events: list[dict[str, Any]]) -> tuple[dict[str, tuple[float, int]], float]:
    nodes: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(KERNEL):
            nodes[event["args"]["op_name"], event["name"]].append(event["dur"])
    operators: dict[str, tuple[float, int]] = {}
    for (kind, _), times in nodes.items():
        total, count = operators.get(kind, (0.0, 0))
        operators[kind] = (total + statistics.median(times), count + 1)
    return operators, statistics.median(event["dur"] for event in events if event["name"] == "model_run")


def _cell(entry: tuple[float, int] | None) -> str:
    return "-" if entry is None else f"{entry[0]:.0f} µs, {entry[1]}"


def _feeds(session: Any, work: Pass) -> dict[str, np.ndarray[Any, Any]]:
    """Tokens after a cache of noise: which numbers are multiplied changes no time."""
    random = np.random.default_rng(0)
    feeds: dict[str, np.ndarray[Any, Any]] = {}
    for port in session.get_inputs():
        if port.name.startswith(CACHE_IN):
            _, heads, _, width = port.shape
            feeds[port.name] = random.standard_normal((1, heads, work.past, width)).astype(np.float32)
    total = work.past + work.tokens
    feeds["input_ids"] = np.zeros((1, work.tokens), np.int64)
    feeds["attention_mask"] = np.ones((1, total), np.int64)
    feeds["position_ids"] = np.arange(work.past, total)[None]
    declared = {port.name for port in session.get_inputs()}
    feeds = {name: value for name, value in feeds.items() if name in declared}
    if LOGITS_TO_KEEP in {port.name for port in session.get_overridable_initializers()}:
        feeds[LOGITS_TO_KEEP] = np.array(1, np.int64)
    return feeds
