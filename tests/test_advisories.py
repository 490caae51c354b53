"""The audit of the pinned packages: ranges as OSV's schema has them, and no pass without advisories."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from pipeline.command import run
from tests.advisories import findings, main, pinned

VERSIONS = {"some-package": {Version("2.0")}}


def advisory(*events: dict[str, str], name: str = "Some_Package", **more: Any) -> dict[str, Any]:
    affected = {
        "package": {"ecosystem": "PyPI", "name": name},
        "ranges": [{"type": "ECOSYSTEM", "events": list(events)}],
    }
    return {"id": "PYSEC-1", "summary": "reads\nbeyond", "affected": [affected], **more}


@pytest.mark.parametrize(
    ("events", "found"),
    [
        (({"introduced": "0"},), True),
        (({"introduced": "0"}, {"fixed": "2.0"}), False),
        (({"introduced": "0"}, {"fixed": "2.0.1"}), True),
        (({"introduced": "2.1"},), False),
        (({"introduced": "1.0"}, {"last_affected": "2.0"}), True),
        (({"introduced": "1.0"}, {"last_affected": "1.9"}), False),
        (({"introduced": "0"}, {"fixed": "1.0"}, {"introduced": "1.5"}, {"fixed": "3.0"}), True),
    ],
)
def test_a_range_is_read_as_the_schema_says(events: tuple[dict[str, str], ...], found: bool) -> None:
    expected = ["some-package 2.0: PYSEC-1: reads beyond"] if found else []
    assert list(findings(VERSIONS, [advisory(*events)])) == expected
    assert list(findings(VERSIONS, [advisory(*reversed(events))])) == expected


def test_withdrawn_ones_and_other_packages_are_no_finding() -> None:
    zero = {"introduced": "0"}
    assert not list(
        findings(VERSIONS, [advisory(zero, withdrawn="2026-01-01T00:00:00Z"), advisory(zero, name="other")])
    )
    listed = {"package": {"ecosystem": "PyPI", "name": "some-package"}, "versions": ["2.0"]}
    assert list(findings(VERSIONS, [{"id": "X", "affected": [listed]}])) == ["some-package 2.0: X: no summary"]


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
def test_a_version_is_affected_from_introduced_to_before_fixed(introduced: int, fixed: int, own: int) -> None:
    events = ({"introduced": str(introduced)}, {"fixed": str(fixed)})
    found = list(findings({"some-package": {Version(str(own))}}, [advisory(*events)]))
    assert bool(found) == (introduced <= own and (own < fixed or fixed < introduced))


def test_what_is_pinned_is_read_whole() -> None:
    versions = pinned()
    assert {"torch", "transformers", "optimum", "numpy", "huggingface-hub"} <= versions.keys()
    assert {version.major for version in versions["transformers"]} == {4, 5}, "two environments have one each"


def test_without_advisories_there_is_no_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(main, [str(tmp_path / "none")]) == 3
    (tmp_path / "one.json").write_text("[]")
    assert run(main, [str(tmp_path)]) == 3
    assert capsys.readouterr().out == ""
    (tmp_path / "one.json").write_text(json.dumps(advisory({"introduced": "0"}, name="optimum")))
    assert run(main, [str(tmp_path)]) == 1
    assert capsys.readouterr().out.startswith("optimum 2.1.0: PYSEC-1")
    (tmp_path / "one.json").write_text(json.dumps(advisory({"introduced": "0"}, name="other")))
    assert run(main, [str(tmp_path)]) == 0
