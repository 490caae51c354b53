"""The generated texts of a report, put side by side: the reference's, and how each variant that differs goes on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from verify.report.figures import gathered


@dataclass
class Other:
    """A text that differs from the reference's at token `step`, and the variants that wrote it."""

    step: int
    shared: str
    first: str  # the first word that differs
    rest: str
    variants: list[str] = field(default_factory=list)


@dataclass
class PromptTexts:
    """One prompt: the reference's text, the variants that wrote the same, and the texts that differ."""

    case: str
    row: int
    prompt: str
    tokens: int
    reference: str
    same: list[str] = field(default_factory=list)
    other: list[Other] = field(default_factory=list)


def texts(report: Mapping[str, Any]) -> list[PromptTexts]:
    """Every prompt with its texts, in the order that the check ran them.

    A row other than the first is kept only by the candidates that part there first, so it appears for those alone. A
    variant that differs at one optimization level only is shown as differing.
    """
    prompts: dict[tuple[str, int], PromptTexts] = {}
    for variant, levels in gathered(report, "generation", "texts").items():
        for text in (text for level in levels for text in level):
            reference = text["shared"] if text["step"] is None else text["shared"] + text["reference"]
            plain = PromptTexts(text["case"], text["row"], text["prompt"], text["tokens"], reference)
            _add(prompts.setdefault((plain.case, plain.row), plain), variant, text)
    for prompt in prompts.values():
        differing = {variant for other in prompt.other for variant in other.variants}
        prompt.same = [variant for variant in prompt.same if variant not in differing]
    cases = list(dict.fromkeys(case for case, _ in prompts))
    return [prompts[key] for key in sorted(prompts, key=lambda key: (cases.index(key[0]), key[1]))]


def _add(prompt: PromptTexts, variant: str, text: Mapping[str, Any]) -> None:
    """Put one variant's text with those that are the same, each variant once."""
    if text["step"] is None:
        writers = prompt.same
    else:
        first = (re.match(r"\s*\S+", text["candidate"]) or [""])[0]
        other = Other(text["step"], text["shared"], first, text["candidate"].removeprefix(first))
        found = next((o for o in prompt.other if (o.step, o.shared, o.first, o.rest) == _words(other)), None)
        if found is None:
            prompt.other.append(found := other)
        writers = found.variants
    if variant not in writers:
        writers.append(variant)


def _words(other: Other) -> tuple[int, str, str, str]:
    return other.step, other.shared, other.first, other.rest
