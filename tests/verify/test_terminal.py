"""The verdict in words, the same in every form; and on a terminal of 80 columns, where nothing may be cut or broken."""

from __future__ import annotations

import math
import re
from html import unescape
from typing import Any

import pytest
from junitparser import JUnitXml

from pipeline.variants import FILES
from tests.support import report_document as made
from verify.report.document import overview
from verify.report.forms import FORMS
from verify.report.sentence import NOT_THERE, sentence
from verify.report.terminal import show
from verify.verdict import Result

CHECKS = ("structure", "tokenizer", "weights", "cache")
RUNTIMES = ("optimum", "transformersjs", "genai")
CHROMIUM = "Chromium is not installed: apt-get install chromium"
BROWSER = {"what": "browser", "reason": CHROMIUM, "required": False, "part": False}
LESS = [
    {"what": f"{what} tokens", "reason": "it takes long", "required": False, "part": True}
    for what in ("browser; webgpu: prompts of 65", "browser: prompts of 257", "processors: prompts of 129")
]
PART = "passed for what was judged"
TWO = [{**BROWSER, "what": name, "reason": "left out by --no-runtimes"} for name in ("optimum", "genai")]
ASKED = "asked a part of the questions, as the recipe says: browser, processors"


def report(*, failing: bool = False, **header: Any) -> dict[str, Any]:
    """All variants, with figures as long as figures get, and lines about failures that are longer than any terminal."""
    results = []
    for variant in FILES:
        worst = math.inf if failing and variant == "q4f16" else 1.2345678e-5
        results += [made.logits(variant, "disable_all", worst), made.divergence(variant, 1.2049e-13)]
        parameters = made.judged("bytes_per_parameter", 4.0183, 4.06)
        results += [Result(variant, check, "any", (parameters,)) for check in CHECKS]
        results += [Result(variant, "logits", "any", (parameters,), runtime=name) for name in RUNTIMES]
    if failing:
        words = "a long reason of many words " * 5 + "and/one/path/that/is/longer/than/the/terminal/is/wide" * 4
        results.append(Result("q8", "generation", "any", (), failure=words, runtime="browser"))
    return made.make(results, **header)


def shown(document: dict[str, Any], width: int, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> str:
    monkeypatch.setenv("COLUMNS", str(width))
    show(document)
    return capsys.readouterr().err


@pytest.mark.parametrize("width", [80, 100, 120])
@pytest.mark.parametrize("failing", [False, True])
def test_nothing_is_cut(
    width: int, failing: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    document = report(failing=failing, not_run=[BROWSER], not_judged=[])
    lines = shown(document, width, capsys, monkeypatch).splitlines()
    assert max(map(len, lines)) <= width
    assert not any("…" in line for line in lines)
    words = [line.split() for line in lines]
    for variant, _, *figures, _ in overview(document)[1]:  # a row is one line, with every figure whole
        own = " ".join(next(row for row in words if row[:1] == [variant]))
        assert own.endswith(" ".join(figures)), own
    assert ["check,", "runtime", *FILES] in words
    for name in (*CHECKS, *RUNTIMES):
        assert [name, *["pass"] * len(FILES)] in words
    assert any(row[:1] == ["verdict:"] for row in words)
    if failing:
        states = next(row for row in words if row[:1] == ["logits"])
        assert states[1 + list(FILES).index("q4f16")] == "FAIL"
        assert next(row for row in words if row[:1] == ["browser"]).count("-") == len(FILES) - 1
        folded = re.sub(r"\s+", "", "".join(lines))
        assert "and/one/path/that/is/longer/than/the/terminal/is/wide" * 4 in folded


def test_without_a_terminal_it_is_80_columns_wide(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    show(report(failing=True))
    assert max(map(len, capsys.readouterr().err.splitlines())) <= 80


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (report(), "passed"),
        (report(not_run=[BROWSER]), f"{PART}; not judged: browser ({CHROMIUM})"),
        (report(not_run=LESS), f"passed; {ASKED}"),
        (report(not_run=[*LESS, BROWSER]), f"{PART}; not judged: browser ({CHROMIUM}); {ASKED}"),
        (
            report(not_run=TWO, not_judged=["q4", "bnb4"], complete=False),
            f"{PART}; not judged: q4, bnb4 ({NOT_THERE}); optimum, genai (left out by --no-runtimes)",
        ),
        (
            report(not_run=[{**BROWSER, "required": True}]),
            f"failed: the recipe requires browser; not judged: browser, which the recipe requires ({CHROMIUM})",
        ),
        (report(failing=True), "failed: q4f16, q8 did not pass"),
        (report(failing=True, not_run=[BROWSER]), f"failed: q4f16, q8 did not pass; not judged: browser ({CHROMIUM})"),
        (made.make([]), "failed: nothing was judged"),
    ],
)
def test_every_form_says_the_verdict_in_the_same_words(
    document: dict[str, Any], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sentence(document) == words
    assert f"verdict: {words}" in shown(document, 1000, capsys, monkeypatch)
    assert f"Verdict: {words}." in FORMS["markdown"](document)
    assert f"Verdict: {words}." in unescape(FORMS["html"](document))
    assert JUnitXml.fromstring(FORMS["junit"](document)).name == f"made: {words}"


def test_what_the_recipe_leaves_out_stands_in_the_report_with_its_reason() -> None:
    document = report(not_run=LESS)
    for form in ("markdown", "html", "junit"):
        text = unescape(FORMS[form](document))
        assert "browser; webgpu: prompts of 65 tokens" in text
        assert "it takes long" in text
