"""The benchmark of onnxruntime-web's wasm: its table from made-up figures, its refusals, and two variants measured."""

from __future__ import annotations

import json
import os
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.program import ProgramError
from benchmarks.results import Absent
from benchmarks.web import report
from benchmarks.web.__main__ import main
from benchmarks.web.engine import STEPS, NodeEngine, Web
from benchmarks.web.run import WebResults, entry
from pipeline.command import run
from pipeline.variants import model_file
from tests.conftest import EMBEDDED, Stage
from verify.interop.runtime import Bounds
from verify.runtimes import transformersjs


def test_the_table_has_medians_ranges_and_ratios_and_says_what_is_absent(tmp_path: Path) -> None:
    rounds = {"ours/fp32": (0.02, 0.04, 0.025), "ours/int8": (0.02,) * 3, "stock/q8": (0.2,) * 3}
    entries = [
        entry(key, 2_500_000, "", [{"load": 0.5, "prefill": 0.25, "decode": [s, s, 100.0]} for s in seconds])
        for key, seconds in rounds.items()
    ]
    gone = Absent("ours/q4", "failed (warm up): no kernel", "see logs/web.txt")
    path = report.write(WebResults("made-up", "asyncify", 1, 3, entries, [gone], 0), tmp_path)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in path.read_text().splitlines() if "|" in line]
    assert rows[2] == ["ours/fp32", "2.5", "40.0 ± 12.5", "1.00", "8.00", "0.50 ± 0.00", "0.25 ± 0.00"]
    assert [row[:5] for row in rows[3:5]] == [
        ["ours/int8", "2.5", "50.0 ± 0.0", "1.25", "10.00"],
        ["stock/q8", "2.5", "5.0 ± 0.0", "0.12", "1.00"],
    ]
    assert rows[-1] == [gone.key, gone.reason, gone.hint]
    assert json.loads((tmp_path / "web.json").read_text())["entries"][0]["decode"]["samples"] == [50.0, 25.0, 40.0]
    assert (tmp_path / "web.svg").stat().st_size > 1000


def test_without_a_yardstick_there_is_no_ratio() -> None:
    answer = {"load": 1.0, "prefill": 1.0, "decode": [0.1]}
    text = report.markdown(WebResults("made-up", "plain", 2, 1, [entry("ours/q8", 1, "", [answer])], [], 7))
    assert "still compiling: 7." in text
    assert "2 threads" in text
    row = next(line for line in text.splitlines() if "ours/q8" in line)
    assert [cell.strip() for cell in row.split("|")[4:6]] == ["-", "-"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--rounds", "0"], 2, "measure nothing"),
        (["--wasm", "asincify"], 2, "did you mean 'asyncify'"),
        ([], 3, "not found: Node (node)"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    arguments: list[str], code: int, message: str, tmp_path: Path, stage: Stage
) -> None:
    found = stage("benchmarks.web", EMBEDDED, "--build", tmp_path, *arguments, code=code, PATH=str(tmp_path))
    assert message in found.stderr
    assert "to do" in found.stderr


@pytest.mark.slow
def test_two_variants_are_measured_and_one_that_fails_does_not_stop_the_next(
    build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without the wait for the compiler in the background: these figures are nobody's."""
    if transformersjs.missing(transformersjs.Settings()) is not None and not os.environ.get("PIPELINE_CI"):
        pytest.skip("Node or its packages are missing")
    only = ["ours/fp32", "ours/q8"]
    monkeypatch.setattr("benchmarks.web.engine.COMPILING_S", 0.0)
    assert run(main, [str(EMBEDDED), "--build", str(build), "--rounds", "1", "--only", *only]) == 0
    home = build / "embedded" / "benchmarks"
    assert capfd.readouterr().out == f"{home / 'web.md'}\n"
    found = json.loads((home / "web.json").read_text())
    assert ([one["key"] for one in found["entries"]], found["absent"]) == (only, [])
    assert all(one["decode"]["median"] > 0 for one in found["entries"])
    assert str(build) not in (home / "web.json").read_text() + (home / "web.md").read_text()

    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    with closing(NodeEngine(Web("plain", 1, Bounds(60, 8)), tmp_path / "log")) as engine:
        with pytest.raises(ProgramError, match="Error: "):
            engine.measure(broken)
        answer = engine.measure(build / "embedded" / "q8" / model_file("q8"))
    assert len(answer["decode"]) == STEPS
    hurried = NodeEngine(Web("plain", 1, Bounds(0.05, 8)), tmp_path / "log")
    with closing(hurried), pytest.raises(ProgramError, match="no answer within"):
        hurried.measure(broken)
