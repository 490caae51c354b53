"""A recipe's figures over its runs: one line of JSON per judged run, and what moved since the run before.

A figure with a standard error has moved when it differs by more than both runs' errors combined. A figure without one
(a maximum, a size, a share of a few hundred choices) has moved when it differs by more than a tenth of the head-room
that the run before left: less cannot bring it near its bound, whatever the figure's unit is.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.canonical import parse_json
from pipeline.command import say
from pipeline.errors import InputError
from pipeline.typed import build

FILE = "history.jsonl"
SCHEMA = 1
SHARE = 0.1  # of the head-room: how far a figure without a standard error may go unmentioned
SHOWN = 40  # runs in the report
KEY = ("variant", "runtime", "level", "check", "measure")  # a figure's name, parted by slashes
MAIN = (("divergence", "mean_kld"), ("logits", "max_abs"))  # figures whose course the report draws


@dataclass(frozen=True)
class Figure:
    """One judged measure: its value, its standard error if it has one, its bound."""

    value: float
    error: float | None
    bound: float
    upper: bool


@dataclass(frozen=True)
class Run:
    """Hold what was judged, by what, and every judged figure by its name (KEY)."""

    report: str  # digest of the report's manifest
    making: str  # digest of what the report was made from: equal for repeated runs
    verdict: str
    identity: Mapping[str, str]  # source, commit, recipe, code, versions, processor
    figures: Mapping[str, Figure]
    schema: int = SCHEMA


def read(path: Path) -> list[Run]:
    """The runs so far, oldest first. A line that is no record (a killed run's last one) is named and left out."""
    if not path.is_file():
        return []
    runs = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            table = parse_json(line, path)
            run = build(Run, table, where=str(path), error=InputError)
            known = run.schema == SCHEMA and all(key.count("/") == len(KEY) - 1 for key in run.figures)
        except InputError:
            known = False
        if known:
            runs.append(run)
        else:
            say(f"history: line {number} of {path.name} is no record of a run; ignored")
    return runs


def append(path: Path, run: Run) -> None:
    """Add one line. It begins on a line of its own even after one that a killed run left unfinished."""
    line = json.dumps(asdict(run), ensure_ascii=False, allow_nan=False)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        os.write(descriptor, f"{chr(10) if torn else ''}{line}\n".encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def run_of(report: Mapping[str, Any], digest: str, making: str) -> Run:
    """The record of a report document."""
    source, place = report["source"], report["environment"]
    identity = {
        "source": str(source["digest"]),
        "commit": str(source.get("commit")),
        "recipe": str(report["recipe"]),
        "code": str(report["reproduce"]["code"]),
        "processor": str(place["processor"]),
        "python": str(place["python"]),
        **place["packages"],
    }
    return Run(digest, making, report["verdict"], identity, dict(_figures(report)))


def compare(now: Run, past: Sequence[Run]) -> dict[str, Any]:
    """Return what the report says of its history: what moved, what else changed, and the course of the main figures.

    Earlier runs of the same making with the same figures are left out, so that a repeated run gives the same report.
    """
    others = [run for run in past if (run.making, run.figures) != (now.making, now.figures)]
    before: dict[str, Figure] = {}
    for run in others:
        before |= run.figures
    figures = [(key, before[key], figure) for key, figure in now.figures.items() if key in before]
    moves = [_described(key, old, new) for key, old, new in figures if moved(old, new)]
    last = others[-1] if others else None
    shown = [
        {
            "report": run.report,
            "verdict": run.verdict,
            "figures": {k: f.value for k, f in run.figures.items() if _main(k)},
        }
        for run in others[-SHOWN:]
    ]
    return {"moved": moves, "changed": [] if last is None else _changes(last.identity, now.identity), "runs": shown}


def moved(before: Figure, now: Figure) -> bool:
    """Return whether a figure that still passes has moved by more than chance, or than its head-room makes harmless."""
    passes = now.value <= now.bound if now.upper else now.value >= now.bound
    return passes and abs(now.value - before.value) > allowed(before, now)


def allowed(before: Figure, now: Figure) -> float:
    """By how much a figure may differ from the run before without a word."""
    if before.error is not None and now.error is not None:
        return math.hypot(before.error, now.error)
    return SHARE * abs(now.bound - before.value)


def _described(key: str, before: Figure, now: Figure) -> dict[str, Any]:
    both = before.error is not None and now.error is not None
    return {
        **dict(zip(KEY, key.split("/"), strict=True)),
        "before": before.value,
        "now": now.value,
        "allowed": allowed(before, now),
        "basis": "combined standard error" if both else "a tenth of the head-room",
        "worse": (now.value > before.value) is now.upper,
    }


def _changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    digests = ("source", "recipe", "code")
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return [n if n in digests else f"{n} {before.get(n, 'none')} → {now.get(n, 'none')}" for n in names]


def _figures(report: Mapping[str, Any]) -> Iterator[tuple[str, Figure]]:
    for result in report["results"]:
        for m in result["measures"]:
            if m["bound"] is not None and m["value"] is not None:
                place = result["variant"], result.get("runtime", "onnxruntime"), result["level"], result["check"]
                yield "/".join((*place, m["name"])), Figure(m["value"], m["standard_error"], m["bound"], m["upper"])


def _main(key: str) -> bool:
    _, _, level, check, measure = key.split("/")
    return (check, measure) in MAIN and level in ("any", "enable_all")
