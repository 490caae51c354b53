"""python -m verify.bounds: the reports of several processors as one recipe's tables."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.command import run
from pipeline.recipe.recipe import read_recipe
from tests.conftest import EMBEDDED
from tests.support import report_document as made
from tests.support import small_artifacts
from verify.bounds.__main__ import main
from verify.bounds.derive import derive
from verify.verdict import Result

MANIFEST = replace(small_artifacts.MANIFEST, kind="report", name="embedded", variant="report")


def leave(home: Path, name: str, best: str, results: Sequence[Result]) -> None:
    report = made.make(results)
    report["environment"]["instruction_sets"] = [best, "SSE4.2"]
    small_artifacts.make(home / name, {"report.json": json.dumps(report)}, MANIFEST)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    leave(tmp_path / "embedded", "report", "AVX512-VNNI", [made.divergence("q8", 4e-5), made.logits("q8", "any", 0.3)])
    return tmp_path / "embedded"


def printed(home: Path, capfd: pytest.CaptureFixture[str], *more: str, code: int = 0) -> str:
    assert run(main, [str(EMBEDDED), "--build", str(home.parent), *more]) == code
    out, err = capfd.readouterr()
    return out if code == 0 else err


def test_the_worst_processor_counts_and_each_is_named(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    leave(home, "report-AVX2", "AVX2", [made.divergence("q8", 5e-5), made.logits("q8", "any", 0.2)])
    text = printed(home, capfd, "--factor", "2")
    found = tomllib.loads(text)["tolerances"]
    assert found["measured_on"] == ["AVX512-VNNI", "AVX2"]
    assert found["divergence"]["mean_kld"]["q8"] == {"max": pytest.approx(1e-4, rel=0.02), "measured": 5e-5}
    assert found["logits"]["max_abs"]["q8"] == {"max": pytest.approx(0.6, rel=0.02), "measured": 0.3}
    (line,) = (line for line in text.splitlines() if line.startswith("q8") and "measured = 5e-05" in line)
    assert line.endswith("; AVX512-VNNI 4e-05; AVX2 5e-05")
    derived = derive(read_recipe(EMBEDDED))["logits", "on_demand"].bounds
    assert {name: limit["max"] for name, limit in found["logits"]["on_demand"].items() if name != "reason"} == derived


def test_a_report_on_other_files_is_refused(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    leave(home, "report-AVX2", "AVX2", [made.divergence("q4", 5e-5)])
    message = printed(home, capfd, code=3)
    assert "it judged other files" in message
    assert "report-AVX2" in message


def test_what_cannot_be_read_or_asked_is_refused(home: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert "python -m verify" in printed(tmp_path / "none" / "embedded", capfd, code=3)
    assert "factor 0.5" in printed(home, capfd, "--factor", "0.5", code=2)
