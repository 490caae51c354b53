"""The report: JSON for machines (verify/report.schema.json), Markdown and a terminal table for people."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from verify.verdict import Judged, Result

SCHEMA = 1
# Measures that the overview shows, one column each: the worst over the levels.
HEADLINES = (
    ("structure", "bytes_per_parameter", "B/param"),
    ("logits", "max_abs", "max Δlogit"),
    ("divergence", "mean_kld", "mean KLD"),
    ("divergence", "p999_kld", "99.9 % KLD"),
    ("divergence", "same_top", "same top"),
)


def document(results: Sequence[Result], header: Mapping[str, Any]) -> dict[str, Any]:
    """The report as plain data; `header` says what was judged, against what, and where."""
    lacking = [entry for entry in header["not_run"] if entry["required"]]
    return {
        "schema": SCHEMA,
        "verdict": "passed" if results and all(result.passed for result in results) and not lacking else "failed",
        **header,
        "results": [_result(result) for result in results],
    }


def write(report: Mapping[str, Any], directory: Path) -> None:
    """Write report.json and report.md."""
    text = json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False)
    (directory / "report.json").write_text(text + "\n", encoding="utf-8")
    (directory / "report.md").write_text(markdown(report), encoding="utf-8")


def markdown(report: Mapping[str, Any]) -> str:
    """The report in Markdown: verdict, overview, every measure with its bound and reason, environment."""
    heads, rows = overview(report)
    lines = [f"# {report['name']}: {report['verdict']}", "", *_table(heads, rows), ""]
    failures = failed(report)
    if failures:
        lines += ["## Failed", "", *(f"- {text}" for text in failures), ""]
    if report["not_judged"]:
        lines += [f"Not judged (not built, or not chosen), so not passed: {', '.join(report['not_judged'])}.", ""]
    if report["not_run"]:
        lines += ["## Not run, so not passed", "", *(f"- {text}" for text in not_run(report)), ""]
    lines += ["## Measures", "", "Required is the smallest tolerance that would pass; allowed is the recipe's.", ""]
    for candidate in report["candidates"]:
        variant = candidate["variant"]
        lines += [
            f"### {variant}",
            "",
            f"`{candidate['file']}`, {candidate['bytes']} bytes, sha256 `{candidate['sha256']}`",
            "",
        ]
        rows = [
            [
                r["check"],
                r["runtime"],
                r["level"],
                m["name"],
                _value(m),
                _bound(m),
                m["compared"],
                "yes" if m["passed"] else "**no**",
                m["detail"],
            ]
            for r in report["results"]
            if r["variant"] == variant
            for m in r["measures"]
        ]
        heads = ["check", "runtime", "level", "measure", "required", "allowed", "compared", "holds", "detail"]
        lines += [*_table(heads, rows), ""]
    lines += ["## Reasons for the tolerances", "", *(f"- {text}" for text in _reasons(report)), ""]
    lines += [
        "## Environment",
        "",
        "```json",
        json.dumps(report["environment"], indent=1, ensure_ascii=False),
        "```",
        "",
    ]
    lines += [
        f"Text: {report['text']['tokens']} tokens, sha256 `{report['text']['sha256']}`; seed {report['seed']}.",
        "",
    ]
    return "\n".join(lines)


def overview(report: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of the table of variants: the checks' verdict, and the headline measures."""
    results = report["results"]
    checks = list(dict.fromkeys(result["check"] for result in results))
    shown = [(check, name, title) for check, name, title in HEADLINES if check in checks]
    rows = []
    for candidate in report["candidates"]:
        own = [result for result in results if result["variant"] == candidate["variant"]]
        bad = [check for check in checks if not all(r["passed"] for r in own if r["check"] == check)]
        verdict = f"FAIL: {', '.join(bad)}" if bad else f"pass ({len(checks)})"
        running = list(dict.fromkeys(r["runtime"] for r in own))
        wrong = {r["runtime"] for r in own if not r["passed"]}
        runtimes = ", ".join(f"{name} FAILS" if name in wrong else name for name in running)
        rows.append([candidate["variant"], verdict, *(_worst(own, check, name) for check, name, _ in shown), runtimes])
    return ["variant", "checks", *(title for _, _, title in shown), "runtimes"], rows


def not_run(report: Mapping[str, Any]) -> list[str]:
    """One line for everything that was not run: what, whether the recipe requires it, and why."""
    return [f"{e['what']}{' (required)' if e['required'] else ''}: {e['reason']}" for e in report["not_run"]]


def failed(report: Mapping[str, Any]) -> list[str]:
    """One line per failure: variant, check, level, and the measure or the reason."""
    lines = []
    for result in report["results"]:
        place = f"{result['variant']}: {result['runtime']}: {result['check']} at {result['level']}"
        if result["failure"] is not None:
            lines.append(f"{place}: {result['failure']}")
        for m in result["measures"]:
            if not m["passed"]:
                text = f"{place}: {m['name']} is {_value(m)}, allowed {_bound(m)}"
                lines.append(text + (f" ({m['detail']})" if m["detail"] else ""))
    return lines


def _result(result: Result) -> dict[str, Any]:
    return {
        "variant": result.variant,
        "check": result.check,
        "runtime": result.runtime,
        "level": result.level,
        "passed": result.passed,
        "failure": result.failure,
        "measures": [_measure(judged) for judged in result.measures],
    }


def _measure(judged: Judged) -> dict[str, Any]:
    measure = judged.measure
    return {
        "name": measure.name,
        "value": measure.value if math.isfinite(measure.value) else None,  # JSON has no infinity; null never passes
        "unit": measure.unit,
        "standard_error": measure.error if measure.error is not None and math.isfinite(measure.error) else None,
        "compared": measure.compared,
        "bound": judged.bound,
        "upper": judged.upper,
        "passed": judged.passed,
        "reason": judged.reason,
        "detail": measure.detail,
    }


def _worst(results: Iterable[Mapping[str, Any]], check: str, name: str) -> str:
    found = [m for r in results if r["check"] == check for m in r["measures"] if m["name"] == name]
    if not found:
        return "-"
    if any(m["value"] is None for m in found):
        return "not finite"
    return f"{max(found, key=lambda m: m['value'] if m['upper'] else -m['value'])['value']:.4g}"


def _value(measure: Mapping[str, Any]) -> str:
    if measure["value"] is None:
        return "not finite"
    error = f" ± {measure['standard_error']:.2g}" if measure["standard_error"] is not None else ""
    return f"{measure['value']:.4g}{error}"


def _bound(measure: Mapping[str, Any]) -> str:
    return "-" if measure["bound"] is None else f"{'≤' if measure['upper'] else '≥'} {measure['bound']:.4g}"


def _reasons(report: Mapping[str, Any]) -> list[str]:
    reasons = {
        f"{result['check']}.{m['name']}": m["reason"]
        for result in report["results"]
        for m in result["measures"]
        if m["reason"] and m["bound"] is not None
    }
    return [f"{name}: {reason}" for name, reason in reasons.items()]


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return lines + [
        "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows
    ]
