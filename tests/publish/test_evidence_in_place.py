"""A graph in place is published with its variant, and only on evidence of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.rehearsing import FIRST, Build, offline


def in_place(home: Path) -> Build:
    """A build whose q4 has a second graph."""
    made = Build(home, in_place=("q4",))
    made.make(FIRST)
    return made


def test_a_graph_in_place_is_published_with_its_variant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIPELINE_SIGNING_KEY", raising=False)
    build = in_place(tmp_path)
    offline(build)
    assert (build.home / "small" / "repo" / "onnx" / "model_q4_in_place.onnx").is_file()


IN_PLACE: dict[str, tuple[dict[str, Any], str]] = {
    "not judged": ({"candidates": []}, "the report is about other bytes than onnx/model.onnx"),
    "failed": ({"passed": False}, "q4_in_place: structure did not pass"),
    "check did not run": ({"check": "other"}, "did not run: structure on q4_in_place"),
}


@pytest.mark.parametrize(("changes", "refused"), IN_PLACE.values(), ids=IN_PLACE)
def test_a_graph_in_place_needs_its_own_evidence(changes: dict[str, Any], refused: str, tmp_path: Path) -> None:
    build = in_place(tmp_path)
    if "candidates" not in changes:
        names = (*FIRST, "q4_in_place")
        plain = {"check": "structure", "level": "any", "passed": True, "failure": None, "measures": []}
        found = [{**plain, "variant": name, **(changes if name == names[-1] else {})} for name in names]
        changes = {"results": found}
    build.report(build.parents(), **changes)
    assert refused in offline(build, code=3)


def test_a_report_that_leaves_a_graph_in_place_out_is_refused(tmp_path: Path) -> None:
    build = in_place(tmp_path)
    path = build.home / "small" / "report" / "report.json"
    told = [entry for entry in json.loads(path.read_text())["candidates"] if entry["variant"] != "q4_in_place"]
    build.report(build.parents(), candidates=told)
    assert "the report is about other bytes than onnx/model_q4_in_place.onnx" in offline(build, code=3)
