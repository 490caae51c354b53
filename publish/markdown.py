"""Markdown that somebody else wrote, made safe to stand below ours."""

from __future__ import annotations

import re

from markdown_it import MarkdownIt

CODE_SPAN = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)")
TAG = re.compile(r"<(?=[A-Za-z/!?])(?!https?://|mailto:)")  # what begins HTML; autolinks stay
BLOCKS = ("fence", "code_block")
HTML = ("html_block", "html_inline")


def without_html(text: str) -> str:
    """The text with every HTML tag and comment shown instead of obeyed; code and autolinks stay as they are.

    An unclosed comment or <details> would otherwise swallow what follows it, and a page that renders a card decides for
    itself which HTML it trusts. What is code is decided line by line, and can be made to look like more than it is:
    where the parser still finds HTML, code is shown with its tags written out too.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")  # the parser's lines, and no others
    code = {
        line
        for token in MarkdownIt("commonmark", {"html": False}).parse("\n".join(lines))
        if token.type in BLOCKS and token.map is not None
        for line in range(*token.map)
    }
    shown = [line if number in code else _shown(line) for number, line in enumerate(lines)]
    if _has_html("\n".join(shown)):
        shown = [TAG.sub("&lt;", line) for line in lines]
    return "\n".join(shown)


def _has_html(text: str) -> bool:
    tokens = MarkdownIt("commonmark").parse(text)
    return any(found.type in HTML for token in tokens for found in (token, *(token.children or ())))


def _shown(line: str) -> str:
    parts = []
    at = 0
    for span in CODE_SPAN.finditer(line):
        parts += [TAG.sub("&lt;", line[at : span.start()]), span.group()]
        at = span.end()
    return "".join([*parts, TAG.sub("&lt;", line[at:])])
