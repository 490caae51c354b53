"""accuracy.json, accuracy.md and the plot."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt

from benchmarks.accuracy.compare import Accuracy, accuracy, agreement
from benchmarks.accuracy.scores import ItemScore
from benchmarks.accuracy.suite import BENCHMARKS, CARD_AVERAGE, Benchmark
from benchmarks.plots import save
from benchmarks.report import finite, table

REFERENCE = "reference"
ALL = "all"
Scored = Mapping[str, Mapping[str, Sequence[ItemScore]]]  # model -> benchmark -> items


@dataclass(frozen=True)
class AccuracyOutcome:
    """Every model's items; `limit` is None for the whole data."""

    name: str
    limit: int | None
    scored: Scored
    seconds: Mapping[str, float]  # by model
    environment: Mapping[str, Any]


def document(outcome: AccuracyOutcome) -> dict[str, Any]:
    """The figures as JSON values."""
    reference = outcome.scored[REFERENCE]
    models = {}
    for model, by_benchmark in outcome.scored.items():
        entry: dict[str, Any] = {
            "accuracy": {name: asdict(accuracy(items)) for name, items in by_benchmark.items()},
            "seconds": outcome.seconds[model],
        }
        if model != REFERENCE:
            pairs = {name: (reference[name], items) for name, items in by_benchmark.items()}
            pairs[ALL] = (_joined(reference, by_benchmark), _joined(by_benchmark, by_benchmark))
            entry["agreement"] = {name: asdict(agreement(*pair)) for name, pair in pairs.items()}
        models[model] = entry
    card = {benchmark.name: benchmark.card for benchmark in BENCHMARKS} | {"average": CARD_AVERAGE}
    made: dict[str, Any] = finite(
        {"name": outcome.name, "limit": outcome.limit, "card": card, "models": models,
         "environment": outcome.environment}
    )  # fmt: skip
    return made


def write(outcome: AccuracyOutcome, directory: Path) -> Path:
    """Write accuracy.json, accuracy.md and the plot; the path of accuracy.md."""
    made = document(outcome)
    text = json.dumps(made, indent=1, ensure_ascii=False, allow_nan=False)
    (directory / "accuracy.json").write_text(f"{text}\n", encoding="utf-8")
    save(_plot(outcome), directory / "accuracy")
    path = directory / "accuracy.md"
    path.write_text(markdown(outcome), encoding="utf-8")
    return path


def markdown(outcome: AccuracyOutcome) -> str:
    """Accuracies beside the card's, then how far each variant is from the reference."""
    chosen = _chosen(outcome)
    whole = "all items" if outcome.limit is None else f"the first {outcome.limit} items of each (MMLU: over subjects)"
    lines = [f"# {outcome.name}: the card's benchmarks", "", f"lm-evaluation-harness, {whole}.", ""]
    found = {model: {n: accuracy(i) for n, i in table_.items()} for model, table_ in outcome.scored.items()}
    rows = [
        (b.title, f"{found[REFERENCE][b.name].items}", f"{b.card:.2f}", *(_accuracy(found[m][b.name]) for m in found))
        for b in chosen
    ]
    if len(chosen) == len(BENCHMARKS):
        means = [sum(found[m][b.name].per_cent for b in chosen) / len(chosen) for m in found]
        rows.append(("average", "", f"{CARD_AVERAGE:.2f}", *(f"{mean:.2f}" for mean in means)))
    lines += ["## Accuracy, % ± standard error", "", *table(("benchmark", "items", "card", *found), rows), ""]
    lines += ["The card's figures are those of the Hub's weights; another checkpoint's differ from them.", ""]
    heads = ("variant, benchmark", "requests", "mean Δ", "max Δ", "flips", "lost", "won", "McNemar p")
    lines += ["## Against the reference, item by item", "", *table(heads, _agreements(outcome)), ""]
    lines += [
        "Δ: absolute difference of a choice's log-likelihood, nats. Flips: items whose likeliest choice is another.",
        "Lost, won: right only with the reference, only with the variant; McNemar's exact test of the two.",
        "",
        *(f"{model}: {seconds:.0f} s" for model, seconds in outcome.seconds.items()),
        "",
        "```json",
        json.dumps(outcome.environment, indent=1, ensure_ascii=False),
        "```",
        "",
    ]
    return "\n".join(lines)


def _agreements(outcome: AccuracyOutcome) -> list[tuple[str, ...]]:
    rows = []
    for model, entry in document(outcome)["models"].items():
        for name, found in entry.get("agreement", {}).items():
            differences = (f"{found['mean_difference']:.2g}", f"{found['max_difference']:.2g}")
            counts = (str(found[key]) for key in ("flips", "lost", "won"))
            rows.append((f"{model}, {name}", str(found["requests"]), *differences, *counts, f"{found['p_value']:.2g}"))
    return rows


def _plot(outcome: AccuracyOutcome) -> Any:
    """Accuracy with two standard errors, by benchmark and model, and the card's as a line."""
    chosen = _chosen(outcome)
    figure, axes = plt.subplots(figsize=(10, 5), layout="constrained")
    width = 0.8 / len(outcome.scored)
    for place, (model, by_benchmark) in enumerate(outcome.scored.items()):
        found = [accuracy(by_benchmark[benchmark.name]) for benchmark in chosen]
        spots = [row + place * width for row in range(len(chosen))]
        errors = [0.0 if math.isnan(one.error) else 2 * one.error for one in found]
        axes.bar(spots, [one.per_cent for one in found], 0.9 * width, yerr=errors, label=model, error_kw={"alpha": 0.4})
    for row, benchmark in enumerate(chosen):
        label = "card" if row == 0 else ""  # an empty one is left out of the legend
        axes.hlines(benchmark.card, row - width / 2, row + 0.8 - width / 2, colors="black", label=label)
    axes.set_xticks([row + 0.4 - width / 2 for row in range(len(chosen))], [benchmark.title for benchmark in chosen])
    axes.set(ylabel="accuracy, % (bars: two standard errors)", title="The card's benchmarks")
    axes.legend()
    return figure


def _chosen(outcome: AccuracyOutcome) -> list[Benchmark]:
    return [benchmark for benchmark in BENCHMARKS if benchmark.name in outcome.scored[REFERENCE]]


def _joined(by_benchmark: Mapping[str, Sequence[ItemScore]], names: Mapping[str, Any]) -> list[ItemScore]:
    return [item for name in names for item in by_benchmark[name]]


def _accuracy(found: Accuracy) -> str:
    error = "" if math.isnan(found.error) else f" ± {found.error:.2f}"
    return f"{found.per_cent:.2f}{error}"
