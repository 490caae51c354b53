"""bench.json and bench.md."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.results import EngineEntry, Results

MIB = 2**20


def document(results: Results) -> dict[str, Any]:
    """Return the results as JSON values; what is not finite is null, which passes nothing."""
    made: dict[str, Any] = finite(asdict(results))
    return made


def write(results: Results, directory: Path) -> Path:
    """Write bench.json and bench.md; the path of the latter."""
    text = json.dumps(document(results), indent=1, ensure_ascii=False, allow_nan=False)
    (directory / "bench.json").write_text(f"{text}\n", encoding="utf-8")
    path = directory / "bench.md"
    path.write_text(markdown(results), encoding="utf-8")
    return path


def markdown(results: Results) -> str:
    """Return the whole report: figures, ratios, what is absent, how it was measured."""
    lines = [f"# {results.name}: engines side by side", ""]
    lines += [
        f"Medians over {results.rounds} rounds, {results.threads} threads; ± is half the range.",
        f"Memory bandwidth {results.bandwidth.median / 1e9:.1f} GB/s",
        f"({results.bandwidth.low / 1e9:.1f} to {results.bandwidth.high / 1e9:.1f}), products of float32",
        f"{results.arithmetic.median / 1e9:.0f} GFLOP/s ({results.arithmetic.low / 1e9:.0f} to",
        f"{results.arithmetic.high / 1e9:.0f}), measured in every round.",
        f"Processor: {results.environment['processor']} ({', '.join(results.environment['instruction_sets'])}).",
        "Ratios hold within this run; absolute speeds are this machine's in this hour.",
        "",
    ]
    lines += ["## Fidelity, size and memory", "", *_fidelity(results), ""]
    for kind, title in (("prefill", "Prefill, tokens per second"), ("decode", "Decode, tokens per second")):
        lines += [f"## {title}", "", *_speeds(results, kind), ""]
    lines += ["## Our speed over a peer's", "", *_ratios(results), ""]
    if results.absent:
        rows = [(gone.key, gone.reason, gone.hint) for gone in results.absent]
        lines += ["## Absent", "", *table(("configuration", "why", "to do"), rows), ""]
    lines += [
        "## How it was measured",
        "",
        *HOW,
        f"Measurements that began while another engine still used the processor: {results.restless}.",
        "",
    ]
    lines += ["```json", json.dumps(results.environment, indent=1, ensure_ascii=False), "```", ""]
    return "\n".join(lines)


HOW = (
    "Each configuration is loaded in a process of its own; all wait while one is measured, and each measurement begins",
    "when no other process uses the processor. Every round runs every scenario, every engine in turn, the first one",
    "another each time. Prefill asks for the next token's logits only, where the engine can leave the others out",
    "(`-all`: every position's). A decoded token includes the choice of the likeliest. The limit of decoding is the",
    "bandwidth over the bytes of the weights and of the cache; of prefill, the rate at which numpy multiplies large",
    "float32 matrices over the operations that cannot be left out (products of int8 may be beyond it). Memory is the",
    "process's peak resident set. Divergence is that of verify, from PyTorch float32 with eager attention,",
    "teacher-forced on held-out text; that of equal bytes, text, libraries and instruction sets is kept from earlier",
    "sittings (fidelity.json).",
    "",
)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    made = Table(box=box.MARKDOWN, show_edge=True)
    for place, head in enumerate(heads):
        made.add_column(head, justify="left" if place == 0 else "right", no_wrap=True)
    for row in rows:
        made.add_row(*(cell.replace("|", "\\|").replace("\n", " ") for cell in row))
    console = Console(file=io.StringIO(), width=100_000, markup=False, emoji=False, highlight=False)
    console.print(made)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]  # the StringIO given above
    return [line.strip() for line in text.splitlines() if line.strip()]


def _fidelity(results: Results) -> list[str]:
    heads = ("configuration", "bytes", "per parameter", "mean KLD", "99.9 % KLD", "same top token")
    costs = ("load s", "peak MiB", "peak MiB, batch 8")
    rows = []
    for entry in results.entries:
        found = entry.fidelity
        judged = ("-", "-", "-")
        if found is not None:
            judged = (f"{found.mean_kld:.2g}", f"{found.p999_kld:.2g}", f"{found.same_top:.1%}")
        sizes = (f"{entry.size:,}", f"{entry.size / results.parameters:.3f}")
        weights = (f"{entry.load_s:.2f}", f"{entry.peak / MIB:.0f}", f"{entry.peak_batch / MIB:.0f}")
        rows.append((entry.key, *sizes, *judged, *weights))
    return table((*heads, *costs), rows)


def _speeds(results: Results, kind: str) -> list[str]:
    scenarios = [scenario for scenario in results.scenarios if scenario.kind == kind]
    rows = [(entry.key, *(_speed(entry, scenario.name) for scenario in scenarios)) for entry in results.entries]
    return table(("configuration", *(scenario.name for scenario in scenarios)), rows)


def _speed(entry: EngineEntry, scenario: str) -> str:
    if scenario not in entry.speeds:
        return "-"
    found = entry.speeds[scenario]
    rates = found.tokens_per_s
    return f"{rates.median:,.0f} ± {(rates.high - rates.low) / 2:,.0f}, {found.of_limit:.0%} of limit"


def _ratios(results: Results) -> list[str]:
    """Every one of our configurations over every peer's, at the first prefill and the first decoding."""
    scenarios = [next((s for s in results.scenarios if s.kind == kind), None) for kind in ("prefill", "decode")]
    names = [scenario.name for scenario in scenarios if scenario is not None]
    ours = [entry for entry in results.entries if entry.engine == "ours"]
    rows = []
    for peer in (entry for entry in results.entries if entry.engine != "ours"):
        for name in names:
            rates = [entry.speeds[name].tokens_per_s.median / peer.speeds[name].tokens_per_s.median for entry in ours]
            rows.append((f"{peer.key}, {name}", *(f"{rate:.2f}" for rate in rates)))
    return table(("peer, scenario", *(entry.key for entry in ours)), rows)


def finite(value: Any) -> Any:
    """JSON values with null for each number that is not finite."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
