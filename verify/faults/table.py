"""Write what the catalogue shows: a table for people, the same as data, and the verdict."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from verify.faults import explained
from verify.faults.bench import TWIN
from verify.faults.explained import Score
from verify.faults.fault import Fault
from verify.faults.sweep import Clean, Finding, as_data

HEADS = ("fault", "variant", "caught by", "default", "smallest caught", "smallest without twin")


def document(
    name: str,
    described: Mapping[str, Mapping[str, Any]],
    findings: Sequence[Finding],
    cleans: Sequence[Clean],
    scores: Sequence[Score] | None = None,
) -> dict[str, Any]:
    """All results as plain data; the verdict is "passed" if every fault is caught and no clean variant fails.

    `described` are the faults, as `about` has them. What explanations name (`scores`, None where nobody asked) has no
    part in the verdict.
    """
    missed = [f"{finding.fault} in {_place(finding)}" for finding in findings if finding.missed]
    alarms = [
        f"{entry.variant} at seed {entry.seed}{_manner(entry)}: {entry.failed}" for entry in cleans if entry.failed
    ]
    return {
        "schema": 1,
        "name": name,
        "verdict": "failed" if missed or alarms or not findings else "passed",
        "missed": missed,
        "false_alarms": alarms,
        "totals": totals(findings),
        "faults": dict(described),
        "findings": as_data(findings),
        "clean": as_data(cleans),
        "spread": spread(cleans),
        "explained": None if scores is None else explained.as_data(scores),
    }


def totals(findings: Sequence[Finding]) -> dict[str, dict[str, int]]:
    """Of every variant: faults planted, caught, caught without the twin, and those with nothing to plant them in."""
    result = {}
    for variant in dict.fromkeys(_place(finding) for finding in findings):
        own = [finding for finding in findings if _place(finding) == variant]
        planted = [finding for finding in own if finding.not_applicable is None]
        result[variant] = {
            "planted": len(planted),
            "caught": sum(not finding.missed for finding in planted),
            "caught_without_twin": sum(bool(finding.caught_by.keys() - {TWIN}) for finding in planted),
            "not_applicable": len(own) - len(planted),
        }
    return result


def spread(cleans: Sequence[Clean]) -> dict[str, dict[str, list[float]]]:
    """Of every variant and measure: the least and the largest value over the seeds, where they differ."""
    result: dict[str, dict[str, list[float]]] = {}
    for variant in dict.fromkeys(entry.variant for entry in cleans):
        values: dict[str, list[float]] = {}
        for entry in cleans:
            for name, value in entry.measures.items() if entry.variant == variant and not _manner(entry) else ():
                values.setdefault(name, []).append(value)
        result[variant] = {name: [min(own), max(own)] for name, own in values.items() if min(own) != max(own)}
    return result


def rows(faults: Mapping[str, Fault], findings: Sequence[Finding]) -> list[list[str]]:
    """One row per fault and variant."""
    return [
        [
            finding.fault,
            _place(finding),
            finding.not_applicable or ", ".join(finding.caught_by) or "MISSED",
            _number(faults[finding.fault].magnitude),
            _number(finding.smallest),
            _number(finding.smallest_without_twin),
        ]
        for finding in findings
    ]


def markdown(report: Mapping[str, Any], faults: Mapping[str, Fault], findings: Sequence[Finding]) -> str:
    """The report in Markdown."""
    lines = [f"# Planted faults, {report['name']}: {report['verdict']}", ""]
    lines += [f"- missed: {text}" for text in report["missed"]]
    lines += [f"- false alarm: {text}" for text in report["false_alarms"]]
    copies = sum(entry["moved"] for entry in report["clean"])
    runs = f"{len(report['clean'])} clean runs ({copies} of them of copies with their last bits moved)"
    lines += [f"{runs}, {len(report['false_alarms'])} false alarms.", ""]
    if report["explained"] is not None:
        lines += [f"{explained.summary(report['explained']['figures'])}.", ""]
    heads = ("variant", "planted", "caught", "caught_without_twin", "not_applicable")
    lines += _table(heads, [[variant, *map(str, entry.values())] for variant, entry in report["totals"].items()])
    named = {(s["fault"], s["variant"]): s for s in (report["explained"] or {}).get("scores", [])}
    body = rows(faults, findings)
    if report["explained"] is None:
        lines += ["", *_table(HEADS, body)]
    else:
        lines += ["", *_table((*HEADS, "node named"), [[*row, _named(named.get((row[0], row[1])))] for row in body])]
    lines += ["", "## Faults", ""]
    lines += [f"- `{entry.name}` ({entry.family}): {entry.what}" for entry in faults.values()]
    return "\n".join(lines) + "\n"


def write(report: Mapping[str, Any], faults: Mapping[str, Fault], findings: Sequence[Finding], directory: Path) -> str:
    """Write faults.json and faults.md; the latter's text."""
    directory.mkdir(parents=True, exist_ok=True)
    text = markdown(report, faults, findings)
    content = json.dumps(report, indent=1, ensure_ascii=False)
    (directory / "faults.json").write_text(content + "\n", encoding="utf-8")
    (directory / "faults.md").write_text(text, encoding="utf-8")
    return text


def _place(finding: Finding) -> str:
    """The variant that a fault was planted in, and the runtime that was asked about it, if one was."""
    return finding.variant if finding.runtime is None else f"{finding.variant}, {finding.runtime}"


def _manner(entry: Clean) -> str:
    """Say what a clean run has in its own way; nothing for whole work on the variant as it was made."""
    if entry.runtime is not None:
        return f", {entry.runtime}"
    return ", shorter work" if entry.shorter else ", last bits moved" if entry.moved else ""


def _named(score: Mapping[str, Any] | None) -> str:
    """Say how well it was named, and what; nothing for a fault without a node."""
    return "" if score is None else f"{score['score']}: {score['named'] or score['kind']}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}"


def _table(heads: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return lines + ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in body]
