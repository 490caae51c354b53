"""Explain every failed variant of a report, and write what was found into the report's directory."""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from pipeline.command import say
from verify.explain.explanation import Explanation, input_name, lines, write
from verify.explain.locate import Folders, Limits, explain_variant
from verify.report.document import failed
from verify.run_checks import Examination, Target
from verify.verdict import Result


class JudgedOrder(Protocol):
    """State what was judged; see verify.run.Order."""

    @property
    def source(self) -> Path:
        """The reference's checkpoint."""

    @property
    def targets(self) -> Sequence[Target]:
        """The files judged."""

    @property
    def directory(self) -> Path:
        """Return where the report goes in the end."""


def explain_all(
    found: Sequence[tuple[Examination, Sequence[Result]]], order: JudgedOrder, report: Mapping[str, Any], staged: Path
) -> list[dict[str, Any]]:
    """Explain each failed variant, in lines for the report; writes explain.json and the inputs into `staged`.

    By the first of the examinations that it fails: what the recipe's text shows needs no prompt of the user's.
    """
    verify = found[0][0].recipe.verify
    bounds = Limits(verify.timeout_s, verify.memory_gb)
    explained = []
    for target in order.targets:
        failing = ((each, [r for r in results if r.variant == target.variant]) for each, results in found)
        examination, own = next((e for e in failing if not all(r.passed for r in e[1])), (None, []))
        if examination is None:
            continue
        say(f"explain: {target.variant}")
        with tempfile.TemporaryDirectory(dir=staged) as scratch:
            place = Folders(target.path, target.twin, Path(scratch), bounds)
            said = [line for line in failed(report) if line.startswith(f"{target.variant}: ")]
            explanation = explain_variant(examination, place, own, said)
        explained.append(replace(explanation, command=_command(explanation, order, place)))
    write(explained, staged)
    return [{"variant": entry.variant, "lines": lines(entry)} for entry in explained]


def _command(explanation: Explanation, order: JudgedOrder, place: Folders) -> str:
    """The command that shows the fault again, run from the project's root."""
    if explanation.input is None:
        return ""
    parts = ["python", "-m", "verify.explain", _from_here(place.candidate), "--source", _from_here(order.source)]
    parts += ["--input", _from_here(order.directory / input_name(explanation.variant))]
    parts += ["--baseline", _from_here(place.baseline)] if place.baseline else []
    return shlex.join(parts)


def _from_here(path: Path) -> str:
    """Relative to the working directory, so that a stored report names no machine's directories."""
    return os.path.relpath(path)
