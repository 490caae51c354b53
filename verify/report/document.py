"""The report as plain data (verify/report/report.schema.json), and the pieces of text that its forms have in common."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from verify.report.headroom import headroom
from verify.verdict import Judged, Result

SCHEMA = 4
PLAIN = "onnxruntime"  # the runtime of the checks' own sessions
# Measures that the overview shows, one column each: the worst over the levels.
HEADLINES = (
    ("structure", "bytes_per_parameter", "B/param"),
    ("logits", "max_abs", "max Δlogit"),
    ("divergence", "mean_kld", "mean KLD"),
    ("divergence", "p999_kld", "99.9 % KLD"),
    ("divergence", "same_top", "same top"),
)
# Control characters and lone surrogates: XML or UTF-8 cannot hold them, a terminal would obey some of them.
FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


def document(results: Sequence[Result], header: Mapping[str, Any]) -> dict[str, Any]:
    """The report as plain data; `header` says what was judged, against what, and where."""
    lacking = [entry for entry in header["not_run"] if entry["required"]]
    made: dict[str, Any] = _printable(
        {
            "schema": SCHEMA,
            "verdict": "passed" if results and all(result.passed for result in results) and not lacking else "failed",
            **header,
            "headroom": headroom(results),
            "results": [_result(result) for result in results],
        }
    )
    return made


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


def passes(report: Mapping[str, Any]) -> tuple[dict[str, dict[str, bool | None]], dict[str, dict[str, bool | None]]]:
    """Return whether each variant passes each check, and all that each further runtime was asked; None: not judged."""
    checks: dict[str, dict[str, bool | None]] = {}
    runtimes: dict[str, dict[str, bool | None]] = {}
    nothing: dict[str, bool | None] = dict.fromkeys(entry["variant"] for entry in report["candidates"])
    for result in report["results"]:
        own = result["runtime"] == PLAIN
        states = (checks if own else runtimes).setdefault(result["check" if own else "runtime"], dict(nothing))
        states[result["variant"]] = result["passed"] and states[result["variant"]] is not False
    return checks, runtimes


def failed(report: Mapping[str, Any]) -> list[str]:
    """One line per failure: variant, check, level, and the measure or the reason."""
    lines = []
    for result in report["results"]:
        where = f"{result['variant']}: {result['check']} at {place(result)}"
        if result["failure"] is not None:
            lines.append(f"{where}: {result['failure']}")
        for m in result["measures"]:
            if not m["passed"]:
                text = f"{where}: {m['name']} is {value_text(m)}, allowed {bound_text(m)}"
                lines.append(text + (f" ({m['detail']})" if m["detail"] else ""))
    return lines


def moved(report: Mapping[str, Any]) -> list[str]:
    """One line for each figure that passes but has moved since the run before."""
    lines = []
    for m in report["history"]["moved"] if report["history"] else ():
        where = f"{m['variant']}: {m['check']}.{m['measure']} at {place(m)}"
        way = "worse" if m["worse"] else "better"
        limit = f"by more than {m['allowed']:.2g}, {'its' if m['basis'][0] == 'c' else 'which is'} {m['basis']}"
        lines.append(f"{where} went from {m['before']:.4g} to {m['now']:.4g} ({way}), {limit}")
    return lines


def place(result: Mapping[str, Any]) -> str:
    """Return where a result was measured: the optimization level, and the runtime if it is not plain onnxruntime."""
    runtime = result["runtime"]
    return result["level"] if runtime == PLAIN else f"{runtime}, {result['level']}"


def column(result: Mapping[str, Any]) -> str:
    """The column of a result in the table of variants and checks: its check, in each runtime apart."""
    runtime = result["runtime"]
    return result["check"] if runtime == PLAIN else f"{result['check']} ({runtime})"


def value_text(measure: Mapping[str, Any]) -> str:
    """A measure's value with its standard error."""
    if measure["value"] is None:
        return "not finite"
    error = f" ± {measure['standard_error']:.2g}" if measure["standard_error"] is not None else ""
    return f"{measure['value']:.4g}{error}"


def bound_text(measure: Mapping[str, Any]) -> str:
    """A measure's bound and its side; a dash for what is shown only and always holds."""
    if measure["bound"] is None:
        unset = "finite" if measure["value"] is None else "nothing yet: the recipe sets no tolerance"
        return "-" if measure["passed"] else unset
    return f"{'≤' if measure['upper'] else '≥'} {measure['bound']:.4g}"


def reasons(report: Mapping[str, Any]) -> dict[str, str]:
    """Return why each bound is what it is, by `check.measure`."""
    return {
        f"{result['check']}.{m['name']}": m["reason"]
        for result in report["results"]
        for m in result["measures"]
        if m["reason"] and m["bound"] is not None
    }


def _result(result: Result) -> dict[str, Any]:
    return {
        "variant": result.variant,
        "check": result.check,
        "runtime": result.runtime,
        "level": result.level,
        "passed": result.passed,
        "failure": result.failure,
        "measures": [_measure(judged) for judged in result.measures],
        "series": _plain(result.series),
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


def _plain(value: Any) -> Any:
    """Series as JSON: four significant digits, null for what is not finite."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(f"{value:.4g}") if math.isfinite(value) else None
    return value


def _printable(value: Any) -> Any:
    """A value of JSON with what no form can hold replaced: names, errors and texts come from foreign files."""
    if isinstance(value, Mapping):
        return {_printable(key): _printable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_printable(item) for item in value]
    return FORBIDDEN.sub("\ufffd", value) if isinstance(value, str) else value


def _worst(results: Iterable[Mapping[str, Any]], check: str, name: str) -> str:
    found = [m for r in results if r["check"] == check for m in r["measures"] if m["name"] == name]
    if not found:
        return "-"
    if any(m["value"] is None for m in found):
        return "not finite"
    return f"{max(found, key=lambda m: m['value'] if m['upper'] else -m['value'])['value']:.4g}"
