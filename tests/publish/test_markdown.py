"""No HTML of a source's card is HTML on ours."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from publish.markdown import without_html


@pytest.mark.parametrize("text", ["a < b", "`<p>`", "    <p>", "~~~\n<p>\n~~~", "<https://example.com>"])
def test_what_is_not_html_stays(text: str) -> None:
    assert without_html(text) == text


PIECES = [
    "<b>",
    "</b>",
    "<!--",
    "`",
    "``",
    "\\`",
    "```",
    "~~~",
    "    ",
    "\n",
    "\n\n",
    "\r",
    "\x0c",
    "\u2028",
    "> ",
    "- ",
    "x",
]
HTML = ["<p>", "</p", "<!-- x", "x `a` <p> `b`", "<?php", "> <img src=x>", "<httpsx>"]
LOOKS_LIKE_CODE = ["\\`<p>\\`", "`a\nb` <p> `c`", "\x0c\x0c\n<p>\n\n```\na\nb\n```", "\u2028\n<p>\n\n    a\n"]


def kinds(text: str) -> set[str]:
    parsed = MarkdownIt("commonmark").parse(text)
    return {child.type for token in parsed for child in [token, *(token.children or [])]}


@pytest.mark.parametrize("text", [*HTML, *LOOKS_LIKE_CODE])
def test_html_is_shown(text: str) -> None:
    assert not kinds(without_html(text)) & {"html_block", "html_inline"}


@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
def test_no_text_is_html_in_the_end(text: str) -> None:
    assert not kinds(without_html(text)) & {"html_block", "html_inline"}
