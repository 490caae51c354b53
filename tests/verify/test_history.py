"""A recipe's history: a line per run whatever was killed, and a word about figures that moved."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import report_document as made
from verify.report import history
from verify.report.history import Figure, Run

values = st.floats(0, 10, allow_subnormal=False)
errors = st.none() | st.floats(0, 1, allow_subnormal=False)


def run(mean: float, *, making: str = "m", digest: str = "r") -> Run:
    return made.run(made.make([made.divergence("q8", mean)]), digest=digest, making=making)


def test_runs_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    assert history.read(path) == []
    runs = [run(1e-5), run(2e-5, making="n"), made.run(made.make([made.logits("fp32", "enable_all", 0.5)]))]
    for entry in runs:
        history.append(path, entry)
    assert history.read(path) == runs
    assert path.read_bytes().count(b"\n") == 3


@given(cut=st.integers(0, 400))
def test_a_line_cut_short_costs_that_run_only(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = tmp_path_factory.mktemp("history") / "history.jsonl"
    history.append(path, run(1e-5, digest="first"))
    whole = path.read_bytes()
    path.write_bytes(whole + whole[: min(cut, len(whole) - 2)])
    history.append(path, run(2e-5, digest="last"))
    assert [entry.report for entry in history.read(path)] == ["first", "last"]


@pytest.mark.parametrize(
    "line", [b"\xff\xfe", b"[]", b"{}", b"3", b'{"schema": 2}', b'{"schema": 1, "figures": []}', b"[" * 9999]
)
def test_a_foreign_line_is_named_and_left_out(line: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "history.jsonl"
    path.write_bytes(line + b"\n")
    history.append(path, run(1e-5))
    assert len(history.read(path)) == 1
    assert "line 1 of history.jsonl is no record" in capsys.readouterr().err


@given(before=values, now=values, old_error=errors, new_error=errors, bound=values)
def test_a_figure_has_moved_beyond_chance_or_a_tenth_of_its_head_room(
    before: float, now: float, old_error: float | None, new_error: float | None, bound: float
) -> None:
    old, new = Figure(before, old_error, bound, upper=True), Figure(now, new_error, bound, upper=True)
    moved = history.moved(old, new)
    assert not (moved and now > bound), "a failure is reported as one"
    assert not history.moved(old, old)
    if now <= bound and old_error is not None and new_error is not None:
        assert moved == (abs(now - before) > math.sqrt(old_error**2 + new_error**2))
        assert moved == history.moved(dataless(new, bound), dataless(old, bound)) or before > bound
    elif now <= bound:
        assert moved == (abs(now - before) > 0.1 * abs(bound - before))


def dataless(figure: Figure, bound: float) -> Figure:
    """The same figure; the rule for standard errors looks at no more than values and errors."""
    return Figure(figure.value, figure.error, bound, figure.upper)


def test_a_run_made_again_is_no_run_before_it() -> None:
    first, second = run(1e-5, making="a"), run(2e-5, making="b")
    fresh = history.compare(second, [first])
    assert [move["measure"] for move in fresh["moved"]] == ["mean_kld"]
    assert fresh == history.compare(second, [first, second, second])
    assert len(fresh["runs"]) == 1
    unstable = history.compare(run(3e-5, making="b"), [first, second])
    assert unstable["moved"][0]["before"] == 2e-5, "the same inputs gave other figures"


def test_what_else_changed_is_said() -> None:
    before = made.make([made.divergence("q8", 1e-5)])
    after = made.make([made.divergence("q8", 1e-5)], recipe="9" * 64)
    after["environment"]["packages"] = {"onnxruntime": "2.0"}
    told = history.compare(made.run(after, making="n"), [made.run(before)])
    assert told["changed"] == ["recipe", "onnxruntime 1.0 → 2.0"]
    assert told["moved"] == []


def test_a_figure_is_compared_with_the_last_run_that_has_it() -> None:
    other = made.run(made.make([made.divergence("q4", 1e-4)]), making="b")
    told = history.compare(run(2e-5, making="c"), [run(1e-5, making="a"), other])
    assert [(move["variant"], move["before"]) for move in told["moved"]] == [("q8", 1e-5)]
