"""web.json, web.md and the bar chart of decoding."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt

from benchmarks.plots import save
from benchmarks.report import table
from benchmarks.schedule import Spread
from benchmarks.web.engine import PROMPT, STEPS
from benchmarks.web.run import WebEntry, WebResults

YARDSTICKS = ("ours/fp32", "stock/q8")
NOTES = (
    "One Node process measures all files, without WebGPU: in every round each is loaded, prefilled, decoded and",
    "released in turn, the first one another each time. A round that is not counted comes first, and each measurement",
    "begins when the engine has compiled in the background what it ran often. Decoding is the median of",
    f"{STEPS} greedy tokens behind {PROMPT}; the prefill yields every position's logits, as Transformers.js asks for",
    "them. The file is in memory before it is loaded; the download and the compilation of the wasm are not included.",
    "The engine's JavaScript is the package's own for Node; a browser compiles the same wasm.",
)


def write(results: WebResults, directory: Path) -> Path:
    """Write web.json, web.md and, if anything was measured, its chart; the path of web.md."""
    text = json.dumps(asdict(results), indent=1, ensure_ascii=False, allow_nan=False)
    (directory / "web.json").write_text(f"{text}\n", encoding="utf-8")
    if results.entries:
        save(_bars(results.entries), directory / "web")
    path = directory / "web.md"
    path.write_text(markdown(results), encoding="utf-8")
    return path


def markdown(results: WebResults) -> str:
    """The whole report."""
    threads = f"{results.threads} thread{'s' if results.threads > 1 else ''}"
    heads = ("configuration", "MB", "decode, tokens/s", *(f"over {key}" for key in YARDSTICKS), "load s")
    rows = [_row(entry, results.entries) for entry in results.entries]
    lines = [f"# {results.name}: in onnxruntime-web's wasm", ""]
    lines += [f"Build `{results.wasm}`, {threads}; medians over {results.rounds} rounds, ± is half the range.", ""]
    lines += [*table((*heads, f"prefill {PROMPT}, s"), rows), "", *(["![decoding](web.svg)", ""] if rows else [])]
    if results.absent:
        gone = [(absent.key, absent.reason, absent.hint) for absent in results.absent]
        lines += ["## Absent", "", *table(("configuration", "why", "to do"), gone), ""]
    lines += ["## How it was measured", "", *NOTES]
    lines += [f"Measurements that began while it was still compiling: {results.restless}.", ""]
    lines += ["```json", json.dumps(results.environment, indent=1, ensure_ascii=False), "```", ""]
    return "\n".join(lines)


def _row(entry: WebEntry, entries: Sequence[WebEntry]) -> tuple[str, ...]:
    known = {other.key: other.decode.median for other in entries}
    ratios = (f"{entry.decode.median / known[key]:.2f}" if key in known else "-" for key in YARDSTICKS)
    waits = (_spread(value, 2) for value in (entry.load_s, entry.prefill_s))
    return (entry.key, f"{entry.size / 1e6:.1f}", _spread(entry.decode, 1), *ratios, *waits)


def _spread(value: Spread, digits: int) -> str:
    return f"{value.median:.{digits}f} ± {(value.high - value.low) / 2:.{digits}f}"


def _bars(entries: Sequence[WebEntry]) -> Any:
    figure, axes = plt.subplots(figsize=(9, 0.4 * len(entries) + 1.5), layout="constrained")
    rates = [entry.decode for entry in entries]
    error = [[rate.median - rate.low for rate in rates], [rate.high - rate.median for rate in rates]]
    axes.barh([entry.key for entry in entries], [rate.median for rate in rates], xerr=error)
    axes.invert_yaxis()
    axes.set(xlabel="decoded tokens per second", title="Decoding in onnxruntime-web's wasm")
    return figure
