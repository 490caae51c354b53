"""The user's own prompts of a report, side by side: the reference's answer, and each variant's, prompt by prompt."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from verify.report.document import bound_text, place, prompted, value_text
from verify.scoring.near_ties import tied

HEADS = ("variant", "check", "level", "measure", "required", "allowed", "compared", "holds", "detail")


@dataclass(frozen=True)
class PromptAnswer:
    """One variant's answer: what it shares with the reference's, the first word that differs, and how it goes on.

    `difference` says where it differs, and whether that is a near tie; `kld` is the mean divergence there, nats.
    """

    variant: str
    shared: str
    first: str
    rest: str
    difference: str
    kld: float | None

    @property
    def text(self) -> str:
        """The whole answer."""
        return self.shared + self.first + self.rest


@dataclass
class PromptAsked:
    """One prompt, the reference's answer to it, and the variants'."""

    name: str
    prompt: str = ""
    reference: str = ""
    answers: list[PromptAnswer] = field(default_factory=list)


def asked(report: Mapping[str, Any]) -> list[PromptAsked]:
    """Every prompt in the order of the file; none where the report has no prompts."""
    found: dict[str, PromptAsked] = {}
    for variant in (entry["variant"] for entry in report["candidates"]):
        own = {r["check"]: r["series"] for r in prompted(report) if r["variant"] == variant}
        texts = {text["case"]: text for text in own.get("generation", {}).get("texts", ())}
        limit = own.get("generation", {}).get("near_ties", {}).get("limit")
        figures = own.get("divergence", {}).get("by_prompt", {})
        for name in dict.fromkeys(name for series in own.values() for name in series.get("by_prompt", ())):
            entry, text = found.setdefault(name, PromptAsked(name)), texts.get(name)
            kld = figures.get(name, {}).get("mean_kld")
            if text is None:
                entry.answers.append(PromptAnswer(variant, "", "", "", "not generated", kld))
                continue
            entry.prompt = text["prompt"]
            entry.reference = text["shared"] + (text["reference"] if text["step"] is not None else "")
            entry.answers.append(_answer(variant, text, limit, kld))
    return list(found.values())


def rows(report: Mapping[str, Any]) -> Iterator[Sequence[object]]:
    """Cells of every measure on the prompts, in the order of HEADS; of a check without any, why."""
    for result in prompted(report):
        start = [result["variant"], result["check"], place(result)]
        if result["failure"] is not None:
            yield [*start, "-", "-", "-", 0, "no", result["failure"]]
        for m in result["measures"]:
            holds = "yes" if m["passed"] else "no"
            yield [*start, m["name"], value_text(m), bound_text(m), m["compared"], holds, m["detail"]]


def about(report: Mapping[str, Any]) -> str:
    """Say which prompts were asked: the file, its digest, how many."""
    own = report["prompts"]
    return f"{own['count']} of {own['file']}, sha256 {own['sha256']}, beside the recipe's text and held to its bounds"


def kld_text(answer: PromptAnswer) -> str:
    """The divergence on the prompt; a dash where it was not measured, or is not finite."""
    return "-" if answer.kld is None else f"{answer.kld:.2g}"


def _answer(variant: str, text: Mapping[str, Any], limit: float | None, kld: float | None) -> PromptAnswer:
    if text["step"] is None:
        return PromptAnswer(variant, text["shared"], "", "", f"none in {text['tokens']} tokens", kld)
    first = (re.match(r"\s*\S+", text["candidate"]) or [""])[0]
    near = text["margin"] is not None and limit is not None and tied(text["margin"], limit)
    kind = "near tie" if near else "no near tie"
    margin = "" if text["margin"] is None else f", margin {text['margin']:.2g}"
    what = f"token {text['step'] + 1} of {text['tokens']}: {kind}{margin}"
    return PromptAnswer(variant, text["shared"], first, text["candidate"].removeprefix(first), what, kld)
