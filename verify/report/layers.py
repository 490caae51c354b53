"""The gap by layer in words and tables: how far what each module makes is from the reference's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from verify.layers.modules import NOT_FINITE

Report = Mapping[str, Any]
ABOUT = (
    "How far what each module makes is from the reference's: the norm of the difference as a share of the norm. First "
    "what has gathered up to the module; in brackets its own error, from the reference's input. {tokens} tokens in one "
    "call, onnxruntime's optimizations off. For reading: no bound is held to it, only what is not finite fails."
)
MISSING = "not measured"


def about(report: Report) -> str:
    """Return what the table shows."""
    return ABOUT.format(tokens=report["layers"]["tokens"])


def table(report: Report) -> tuple[list[str], list[list[str]]]:
    """Heads and rows: a row for each module, a column for each variant."""
    variants = report["layers"]["variants"]
    found = [{row["name"]: row for row in entry["modules"]} for entry in variants]
    names = dict.fromkeys(name for rows in found for name in rows)
    cells = [[name, *(_cell(rows[name]) if name in rows else MISSING for rows in found)] for name in names]
    return ["module", *(entry["variant"] for entry in variants)], cells


def not_measured(report: Report) -> list[str]:
    """One line for each variant and reason: which modules lack a figure."""
    lines = []
    for entry in report["layers"]["variants"]:
        if entry["reason"] is not None:
            lines.append(f"{entry['variant']}: {MISSING}: {entry['reason']}")
        by_reason: dict[str, list[str]] = {}
        for row in entry["modules"]:
            if row["reason"] is not None:
                by_reason.setdefault(row["reason"], []).append(row["name"])
        lines += [f"{entry['variant']}: {', '.join(names)}: {reason}" for reason, names in by_reason.items()]
    return lines


def farthest(report: Report) -> str:
    """Return, in one line, the module with the largest error of its own in each variant; empty where none is known."""
    found: dict[str, list[str]] = {}
    for variant, _, own in curves(report):
        known = [(error, name) for name, error in own.items() if error is not None]
        if known:
            error, name = max(known)
            found.setdefault(name, []).append(f"{variant} {error:.2g}")
    return "; ".join(f"{name}: {', '.join(values)}" for name, values in found.items())


def curves(report: Report) -> Iterator[tuple[str, Mapping[str, float | None], Mapping[str, float | None]]]:
    """Yield each variant that was measured with what gathered up to each module, and each module's own error."""
    for entry in report["layers"]["variants"]:
        rows: Sequence[Mapping[str, Any]] = entry["modules"]
        if rows:
            yield (
                entry["variant"],
                {row["name"]: row["error"] for row in rows},
                {row["name"]: row["own"] for row in rows},
            )


def _cell(row: Mapping[str, Any]) -> str:
    if row["error"] is None:
        return "not finite" if row["reason"] == NOT_FINITE else MISSING
    return f"{row['error']:.1e} ({MISSING if row['own'] is None else format(row['own'], '.1e')})"
