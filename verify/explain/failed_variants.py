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


class Order(Protocol):
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
    examination: Examination, order: Order, results: Sequence[Result], report: Mapping[str, Any], staged: Path
) -> list[dict[str, Any]]:
    """Explain each failed variant, in lines for the report; writes explain.json and the inputs into `staged`."""
    bounds = Limits(examination.recipe.verify.timeout_s, examination.recipe.verify.memory_gb)
    found = []
    for target in order.targets:
        own = [result for result in results if result.variant == target.variant]
        if all(result.passed for result in own):
            continue
        say(f"explain: {target.variant}")
        with tempfile.TemporaryDirectory(dir=staged) as scratch:
            place = Folders(target.path, target.twin, Path(scratch), bounds)
            said = [line for line in failed(report) if line.startswith(f"{target.variant}: ")]
            explanation = explain_variant(examination, place, own, said)
        found.append(replace(explanation, command=_command(explanation, order, place)))
    write(found, staged)
    return [{"variant": entry.variant, "lines": lines(entry)} for entry in found]


def _command(explanation: Explanation, order: Order, place: Folders) -> str:
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
