"""Markdown that somebody else wrote, made safe to stand below ours."""

from __future__ import annotations

import re

from markdown_it import MarkdownIt

CODE_SPAN = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)")
TAG = re.compile(r"<(?=[A-Za-z/!?])(?!https?://|mailto:)")  # what begins HTML; autolinks stay
BLOCKS = ("fence", "code_block")


def without_html(text: str) -> str:
    """The text with every HTML tag and comment shown instead of obeyed; code and autolinks stay as they are.

    An unclosed comment or <details> would otherwise swallow what follows it, and a page that renders a card decides for
    itself which HTML it trusts.
    """
    lines = text.splitlines()
    code = {
        line
        for token in MarkdownIt("commonmark", {"html": False}).parse(text)
        if token.type in BLOCKS and token.map is not None
        for line in range(*token.map)
    }
    return "\n".join(line if number in code else _shown(line) for number, line in enumerate(lines))


def _shown(line: str) -> str:
    parts = []
    at = 0
    for span in CODE_SPAN.finditer(line):
        parts += [TAG.sub("&lt;", line[at : span.start()]), span.group()]
        at = span.end()
    return "".join([*parts, TAG.sub("&lt;", line[at:])])
