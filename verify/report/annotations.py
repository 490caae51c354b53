"""A report's JUnit file as annotations of GitHub Actions: a line for each measure that failed or was not run.

Source of the form: GitHub's documentation, "Workflow commands for GitHub Actions", `::error title=...::...`.
"""

from __future__ import annotations

from collections.abc import Iterator

from junitparser import JUnitXml, Skipped, TestCase

MOST = 10  # GitHub shows no more errors, and no more warnings, of one step


def commands(junit: str) -> list[str]:
    """Return the lines, failures first, and what is beyond GitHub's limit as one more line of its kind."""
    found: dict[str, list[str]] = {"error": [], "warning": []}
    for case in _cases(JUnitXml.fromstring(junit.encode("utf-8"))):
        for result in case.result:
            kind = "warning" if isinstance(result, Skipped) else "error"
            title = f"{case.classname}: {case.name}" if case.classname else case.name
            found[kind].append(f"::{kind} title={_property(title)}::{_data(result.message or 'failed')}")
    return [line for kind, lines in found.items() for line in _limited(kind, lines)]


def _cases(document: JUnitXml) -> Iterator[TestCase]:
    for suite in document:
        yield from suite


def _limited(kind: str, lines: list[str]) -> list[str]:
    if len(lines) <= MOST:
        return lines
    rest = len(lines) - MOST + 1
    return [*lines[: MOST - 1], f"::{kind} title=and {rest} more::See the report."]


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
