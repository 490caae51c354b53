"""The report's forms, from documents made by hand: what failed stands out, nothing foreign is markup, all is stable."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from junitparser import JUnitXml

from tests.conftest import ROOT
from tests.support import report_document as made
from verify.report import history
from verify.report.forms import FORMS, as_json
from verify.report.headroom import headroom, used
from verify.report.html import html
from verify.report.junit import junit
from verify.verdict import Result

HOSTILE = "<script>alert(1)</script>\"'&\x00\x1b[31m\ud800]]>"
VOID = {"meta", "br", "path", "use", "wbr"}


class Page(HTMLParser):
    """Elements of a page, its text, and whether every element that was opened was closed, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def plain(**header: Any) -> dict[str, Any]:
    results = [
        made.logits(variant, level, 0.5) for variant in ("fp32", "q8") for level in ("disable_all", "enable_all")
    ]
    results += [made.divergence("fp32", 1e-7), made.divergence("q8", 1e-5)]
    return made.make([*results, made.generation("fp32"), made.generation("q8", " a while back")], **header)


def hostile() -> dict[str, Any]:
    """Everything that can hold a foreign file's words holds markup and what XML and UTF-8 cannot hold."""
    inner = [
        Result(HOSTILE, "logits", "any", (), failure=HOSTILE),
        Result(HOSTILE, "cache", "any", (made.judged("max_abs", math.inf, 1.0, detail=HOSTILE),)),
        made.divergence(HOSTILE, math.inf),
        made.generation(HOSTILE, HOSTILE),
    ]
    return made.make(inner, not_judged=["q4"], not_run=[made.ABSENT], complete=False)


def test_the_made_document_is_a_report() -> None:
    schema = json.loads((ROOT / "verify" / "report" / "report.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(json.loads(as_json(plain())))


def test_the_page_is_well_formed_and_loads_nothing() -> None:
    page = Page(text := html(plain()))
    assert not page.open
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids)), "an id twice"
    for tag, attributes in page.elements:
        assert tag not in {"script", "link", "iframe", "img", "object", "base"}
        for name in ("href", "src", "xlink:href"):
            target = attributes.get(name)
            assert target is None or (target[0] == "#" and target[1:] in ids), (tag, target)
        assert not any(name.startswith("on") for name in attributes)
    assert not re.search(r"https?://|@import|@font-face|url\((?!#)", text)
    assert "default-src 'none'" in text


def test_a_passed_report_says_so_first_and_shows_every_figure() -> None:
    page = Page(html(plain()))
    assert page.text.split("Passed")[0].strip().count("\n") < 400
    headings = [attributes.get("id") for tag, attributes in page.elements if tag in {"h2", "h3"}]
    assert [f"plot-{name}" for name in ("frontier", "position", "rank", "modules", "divergence", "ties")] == [
        name for name in headings if name and name.startswith("plot-")
    ]
    assert "differs at token 2 of 4" in page.text
    assert ("mark", {}) in page.elements


def test_failures_and_what_is_missing_stand_before_the_tables() -> None:
    results = [made.logits("q8", "enable_all", math.inf), made.logits("q8", "disable_all", 2.0)]
    results.append(Result("q8", "cache", "any", (), failure="its process died"))
    report = made.make(results, not_judged=["q4"], not_run=[made.ABSENT], complete=False)
    page = Page(html(report))
    overview = page.text.index("Each cell leads")
    wanted = [
        "max_abs is not finite",
        "max_abs is 2, allowed ≤ 1",
        "its process died",
        "tokenizer (no ",
        "q4 (not built, or not chosen)",
    ]
    assert all(page.text.index(text) < overview for text in wanted)
    assert all(page.text.count(text) for text in ("✗ FAIL", "Not the whole recipe"))
    assert sum(1 for tag, attributes in page.elements if tag == "details" and "open" in attributes) == 2


@pytest.mark.parametrize("form", FORMS)
def test_foreign_words_are_no_markup_and_break_no_form(form: str) -> None:
    text = FORMS[form](hostile())
    assert text.encode("utf-8")
    assert form == "json" or "<script>" not in text
    assert "\x1b" not in text
    assert "\x00" not in text


def test_equal_documents_give_equal_files() -> None:
    assert [form(plain()) for form in FORMS.values()] == [form(plain()) for form in FORMS.values()]


def test_junit_counts_what_failed_and_what_was_skipped() -> None:
    results = [made.logits("q8", "enable_all", 2.0), made.divergence("q8", 1e-5)]
    results.append(Result("q8", "cache", "any", (), failure="its process died"))
    document = JUnitXml.fromstring(junit(made.make(results, not_judged=["q4"], not_run=[made.ABSENT])))
    document.update_statistics()
    assert (document.tests, document.failures, document.errors, document.skipped) == (7, 1, 1, 2)


@given(st.floats(0, 1e9, allow_subnormal=False), st.floats(0, 1e9, allow_subnormal=False), st.booleans())
def test_a_share_is_within_one_exactly_if_the_figure_passes(value: float, bound: float, upper: bool) -> None:
    if not upper:
        value, bound = value / 1e9, bound / 1e9  # a lower bound is on a share
    share = used(value, bound, upper=upper)
    assert share >= 0
    if not math.isclose(1 - value, 1 - bound, abs_tol=1e-12):
        assert (share <= 1) == (value <= bound if upper else value >= bound)


def test_head_room_is_the_worst_level() -> None:
    results = [made.logits("q8", "disable_all", 0.2), made.logits("q8", "enable_all", 0.7), made.divergence("q8", 1e-4)]
    entries = {entry["measure"]: entry for entry in headroom(results)}
    assert (entries["max_abs"]["level"], entries["max_abs"]["used"]) == ("enable_all", 0.7)
    assert entries["same_top"]["used"] == pytest.approx(0.5)
    assert "perplexity" not in entries


def test_history_is_drawn_and_its_moves_are_said() -> None:
    report = plain()
    old = [made.run(plain(), digest=f"r{i}", making=f"m{i}") for i in range(3)]
    report["history"] = history.compare(made.run(made.make([made.divergence("q8", 2e-5)])), old)
    page = Page(html(report))
    assert "q8: divergence.mean_kld at any went from 1e-05 to 2e-05 (worse)" in page.text
    assert any(attributes.get("id") == "plot-history" for _, attributes in page.elements)
