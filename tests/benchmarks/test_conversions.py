"""Test the table of other programs' conversions: rows from reports, and refusals. Makers are others' tools."""

from __future__ import annotations

from typing import Any

from benchmarks.conversions.__main__ import LONGEST, row
from tests.conftest import Stage


def result(
    check: str, failure: str | None = None, **measures: tuple[float | None, float | None, bool]
) -> dict[str, Any]:
    """A check's result; of each measure value, bound and whether it passed."""
    listed = [{"name": n, "value": v, "bound": b, "passed": p} for n, (v, b, p) in measures.items()]
    return {"check": check, "failure": failure, "measures": listed}


def test_a_row_has_the_figures_the_verdict_and_every_failure_once() -> None:
    bad: dict[str, Any] = {"max_abs": (0.25, 0.1, False), "near_ties": (0.0, 0.1, True)}
    report = {
        "verdict": "failed",
        "candidates": [{"variant": "q4"}],
        "results": [
            result("logits", **bad),
            result("logits", **bad),
            result("divergence", mean_kld=(0.0123, 0.1, True), same_top=(None, 0.8, False)),
            result("cache", failure=f"a | b {'long ' * 99}"),
        ],
    }
    *figures, failures = row("a model: a maker", report)
    assert figures == ["a model: a maker", "q4", "0.25", "0.012", "not measured", "failed"]
    assert failures.split("; ")[:2] == ["`logits.max_abs` 0.25 (0.1)", "`divergence.same_top` not finite (0.8)"]
    assert failures.split("; ")[2].startswith("cache: a \\| b long")
    assert len(failures.split("; ")[2]) <= LONGEST + 1


def test_a_model_that_is_not_there_is_refused(stage: Stage) -> None:
    assert "no model 'embeded'" in stage("benchmarks.conversions", "--only", "embeded", code=2).stderr
