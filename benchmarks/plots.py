"""The figures, each as SVG and PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("agg")  # before pyplot: there is no screen
mpl.rcParams["svg.hashsalt"] = "benchmarks"  # element ids without randomness: equal figures are equal files

from matplotlib import pyplot as plt  # noqa: E402  # see above

from benchmarks.results import EngineEntry, Results  # noqa: E402  # likewise

MARKS = {"ours": "o", "stock": "s", "pytorch": "^", "ctranslate2": "D", "llamacpp": "v", "genai": "P"}
LARGEST = 1.5  # bytes per parameter: beyond 8 bits there is nothing to choose between
LEAST = 1e-14  # nats: below it a divergence is rounding, and a logarithmic axis has no zero


def draw(results: Results, directory: Path) -> list[Path]:
    """Draw every figure for which there are results; the paths written."""
    paths: list[Path] = []
    judged = [entry for entry in results.entries if entry.fidelity is not None]
    small = [entry for entry in judged if entry.size <= LARGEST * results.parameters]
    if judged:
        paths += save(_frontier(small or judged), directory / "size-against-kld")
    timed = [entry for entry in judged if "decode-64" in entry.speeds]
    if timed:
        paths += save(_speed_against_kld(timed), directory / "decode-against-kld")
    decodings = [s.name for s in results.scenarios if s.kind == "decode" and s.batch == 1]
    if decodings and results.entries:
        paths += save(_bars(results.entries, decodings), directory / "decode")
    return paths


def save(figure: Any, path: Path) -> list[Path]:
    """Write a figure as SVG and PNG, without a date; the paths."""
    paths = [path.with_suffix(suffix) for suffix in (".svg", ".png")]
    figure.savefig(paths[0], metadata={"Date": None})
    figure.savefig(paths[1], dpi=150, metadata={"Software": None})
    plt.close(figure)
    return paths


def _frontier(entries: Sequence[EngineEntry]) -> Any:
    figure, axes = plt.subplots(figsize=(9, 6), layout="constrained")
    _scatter(axes, entries, [entry.size / 1e6 for entry in entries])
    axes.set(xlabel="file, MB", title="File size against divergence (lower left is better)")
    ours = sorted((entry for entry in entries if entry.engine == "ours"), key=lambda entry: entry.size)
    best, steps = float("inf"), []
    for entry in ours:
        if _kld(entry) < best:
            best = _kld(entry)
            steps.append((entry.size / 1e6, best))
    if steps:
        axes.step(*zip(*steps, strict=True), where="post", color="C0", alpha=0.4, label="our frontier")
    axes.legend()
    return figure


def _speed_against_kld(entries: Sequence[EngineEntry]) -> Any:
    figure, axes = plt.subplots(figsize=(9, 6), layout="constrained")
    _scatter(axes, entries, [entry.speeds["decode-64"].tokens_per_s.median for entry in entries])
    axes.set(
        xlabel="decoded tokens per second, past 64", title="Decode speed against divergence (lower right is better)"
    )
    axes.legend()
    return figure


def _scatter(axes: Any, entries: Sequence[EngineEntry], values: Sequence[float]) -> None:
    for place, (engine, mark) in enumerate(MARKS.items()):
        own = [(value, entry) for value, entry in zip(values, entries, strict=True) if entry.engine == engine]
        if own:
            heights = [_kld(entry) for _, entry in own]
            axes.scatter([value for value, _ in own], heights, marker=mark, color=f"C{place}", label=engine)
        for value, entry in own:
            axes.annotate(entry.name, (value, _kld(entry)), textcoords="offset points", xytext=(5, 4), fontsize=8)
    axes.set(yscale="log", ylabel="mean KL divergence from PyTorch float32, nats")
    axes.grid(visible=True, which="major", alpha=0.3)


def _bars(entries: Sequence[EngineEntry], scenarios: Sequence[str]) -> Any:
    figure, axes = plt.subplots(figsize=(9, 0.4 * len(entries) + 2), layout="constrained")
    height = 0.8 / len(scenarios)
    for place, scenario in enumerate(scenarios):
        rates = [entry.speeds[scenario].tokens_per_s for entry in entries]
        axes.barh(
            [row + place * height for row in range(len(entries))],
            [rate.median for rate in rates],
            height,
            xerr=[[rate.median - rate.low for rate in rates], [rate.high - rate.median for rate in rates]],
            label=scenario,
        )
    axes.set_yticks([row + height * (len(scenarios) - 1) / 2 for row in range(len(entries))])
    axes.set_yticklabels([entry.key for entry in entries])
    axes.invert_yaxis()
    axes.set(xlabel="tokens per second, one row", title="Decoding after a short and a long context")
    axes.legend()
    return figure


def _kld(entry: EngineEntry) -> float:
    return max(entry.fidelity.mean_kld, LEAST) if entry.fidelity is not None else float("nan")
