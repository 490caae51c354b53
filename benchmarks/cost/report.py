"""cost.json, cost.md and the plot of growth."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt

from benchmarks.cost.growth import VARIED, Point
from benchmarks.cost.usage import Usage
from benchmarks.plots import save
from benchmarks.report import MIB, table
from benchmarks.schedule import spread

HEADS = (
    "command",
    "wall s, median",
    "range",
    "processor s, median",
    "largest process, MiB",
    "all processes, MiB",
    "runs",
)


@dataclass(frozen=True)
class Cost:
    """Hold what was measured: each command once per round, in turns."""

    name: str
    tokens: int  # of text, for verify and the reference
    candidates: int  # graphs that verify judged, fp32 and those in place included
    runs: dict[str, list[Usage]]
    growth: Sequence[Point] = field(default_factory=tuple)
    environment: dict[str, Any] = field(default_factory=dict)


def ratios(cost: Cost) -> dict[str, float]:
    """Medians over medians: convert's wall and peak over optimum-cli's, verify's wall over the passes that it compares.

    `verify_wall` is over the reference's alone, `verify_over_passes` over the reference's and all candidates'.
    """
    made = {}
    if cost.runs.get("convert") and cost.runs.get("optimum-cli"):
        made["convert_wall"] = _wall(cost, "convert") / _wall(cost, "optimum-cli")
        made["convert_peak"] = _peak(cost, "convert") / _peak(cost, "optimum-cli")
    if cost.runs.get("verify") and cost.runs.get("reference"):
        made["verify_wall"] = _wall(cost, "verify") / _wall(cost, "reference")
    if "verify_wall" in made and cost.runs.get("candidates"):
        passes = _wall(cost, "reference") + _wall(cost, "candidates")
        made["verify_over_passes"] = _wall(cost, "verify") / passes
    return made


def write(cost: Cost, directory: Path) -> Path:
    """Write cost.json, cost.md and, if growth was measured, its plot; the path of cost.md."""
    made = {**asdict(cost), "ratios": ratios(cost)}
    (directory / "cost.json").write_text(f"{json.dumps(made, indent=1, ensure_ascii=False)}\n", encoding="utf-8")
    if cost.growth:
        save(_plot(cost.growth), directory / "cost-growth")
    path = directory / "cost.md"
    path.write_text(_markdown(cost), encoding="utf-8")
    return path


def _markdown(cost: Cost) -> str:
    about = {
        "convert": "convert",
        "optimum-cli": "optimum-cli export onnx",
        "quantize": "quantize, all variants",
        "verify": f"verify, divergence only, {cost.candidates} graphs, {cost.tokens:,} tokens",
        "verdict": f"verify, all checks and every runtime but the browser, {cost.candidates} graphs",
        "reference": f"PyTorch reference alone, {cost.tokens:,} tokens",
        "candidates": f"the {cost.candidates} graphs alone, {cost.tokens:,} tokens",
    }
    rows = [(about[name], *_row(runs)) for name, runs in cost.runs.items()]
    lines = [f"# {cost.name}: what the pipeline itself costs", ""]
    lines += [*table(HEADS, rows), ""]
    lines += [*table(("ratio", "value"), [(name, f"{value:.2f}") for name, value in ratios(cost).items()]), ""]
    if cost.growth:
        heads = (
            "varied",
            "layers",
            "width",
            "tokens",
            "variants",
            "convert s",
            "convert MiB",
            "verify s",
            "verify MiB",
        )
        lines += ["## Growth", "", *table(heads, map(_grown, cost.growth)), "", "![growth](cost-growth.svg)", ""]
    lines += ["```json", json.dumps(cost.environment, indent=1, ensure_ascii=False), "```", ""]
    return "\n".join(lines)


def _row(runs: Sequence[Usage]) -> tuple[str, ...]:
    wall, processor = (spread(own) for own in ([run.wall_s for run in runs], [run.processor_s for run in runs]))
    memory = [spread([float(value) for value in own]) for own in ([r.peak for r in runs], [r.together for r in runs])]
    sizes = [f"{size.median / MIB:,.0f}" for size in memory]
    return (
        f"{wall.median:.1f}",
        f"{wall.low:.1f} to {wall.high:.1f}",
        f"{processor.median:.1f}",
        *sizes,
        str(len(runs)),
    )


def _grown(point: Point) -> tuple[str, ...]:
    size, verify, convert = point.size, point.verify, point.convert
    work = (str(size.layers), str(size.width), f"{size.tokens:,}", str(size.variants))
    costs = [f"{value:,.1f}" for run in (convert, verify) for value in (run.wall_s, run.peak / MIB)]
    return (point.varied, *work, *costs)


def _plot(points: Sequence[Point]) -> Any:
    figure, axes = plt.subplots(2, len(VARIED), figsize=(4 * len(VARIED), 6), layout="constrained", sharey="row")
    for column, varied in enumerate(VARIED):
        own = [point for point in points if point.varied == varied]
        values = [getattr(point.size, varied) for point in own]
        for label in ("convert", "verify"):
            runs: list[Usage] = [getattr(point, label) for point in own]
            axes[0][column].plot(values, [run.wall_s for run in runs], marker="o", label=label)
            axes[1][column].plot(values, [run.peak / MIB for run in runs], marker="o", label=label)
        axes[1][column].set_xlabel(varied)
        for row in (0, 1):
            axes[row][column].grid(visible=True, alpha=0.3)
    axes[0][0].set_ylabel("wall, s")
    axes[1][0].set_ylabel("peak, MiB")
    axes[0][0].set_ylim(bottom=0)
    axes[1][0].set_ylim(bottom=0)
    axes[0][0].legend()
    return figure


def _wall(cost: Cost, name: str) -> float:
    return spread([run.wall_s for run in cost.runs[name]]).median


def _peak(cost: Cost, name: str) -> float:
    return spread([float(run.peak) for run in cost.runs[name]]).median
