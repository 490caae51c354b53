"""The report in Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from verify.report import layers
from verify.report.document import bound_text, column, failed, moved, overview, place, reasons, value_text
from verify.report.headroom import grouped, percent
from verify.report.prompts import HEADS, about, asked, kld_text
from verify.report.prompts import rows as prompt_rows
from verify.report.sentence import against, not_run, sentence, verdict

BIGGEST_SUMMARY = 1024 * 1024  # bytes: GitHub refuses a longer summary of a job
BIGGEST_COMMENT = 65_536  # characters: GitHub refuses a longer comment
MEASURES = ["check", "level", "measure", "required", "allowed", "compared", "holds", "detail"]


def markdown(report: Mapping[str, Any]) -> str:
    """Verdict, overview, what failed, moved or was left out, head-room, gap by layer, measures, environment."""
    lines = _beginning(report, "#")
    lines += _section("What to know about this run", report["notices"])
    lines += _section("Questions that the recipe leaves out", not_run(report, part=True))
    lines += _section("Moved since the run before, and still within bounds", moved(report))
    lines += _headroom(report)
    lines += ["## Gap by layer", "", layers.about(report), "", *_table(*layers.table(report)), ""]
    lines += _section("Gap by layer: not measured", layers.not_measured(report))
    lines += ["## Measures", "", "Required is the smallest tolerance that would pass; allowed is the recipe's.", ""]
    for candidate in report["candidates"]:
        lines += _measures(report, candidate)
    lines += _prompts(report)
    lines += _section("Reasons for the tolerances", [f"{name}: {text}" for name, text in reasons(report).items()])
    place_text = json.dumps(report["environment"], indent=1, ensure_ascii=False)
    lines += ["## Environment", "", "```json", place_text, "```", ""]
    text, seed = report["text"], report["seed"]
    lines += [f"Text: {text['tokens']} tokens, sha256 `{text['sha256']}`; seed {seed}.", ""]
    lines += ["## Again", "", "```console", *report["reproduce"]["commands"], "```", ""]
    return "\n".join(lines)


def comment(report: Mapping[str, Any]) -> str:
    """Verdict, overview, and what failed, moved or was not run: short enough for a comment on a pull request."""
    lines = _beginning(report, "###")
    lines += _section("Not run", not_run(report, part=False))
    lines += _section("Moved since the run before, and still within bounds", moved(report))
    lines += ["Again:", "", "```console", *report["reproduce"]["commands"], "```", ""]
    text = "\n".join(lines)
    cut = "\n\n... (the rest is in the report)\n"
    return text if len(text) <= BIGGEST_COMMENT else text[: BIGGEST_COMMENT - len(cut)] + cut


def _beginning(report: Mapping[str, Any], heading: str) -> list[str]:
    """Return what every reader wants first: the verdict, the overview, what failed and where the fault is."""
    heads, rows = overview(report)
    lines = [f"{heading} {_text(report['name'])}: {_text(verdict(report))}", ""]
    lines += [f"Verdict: {_text(sentence(report))}.", "", *_table(heads, rows), ""]
    lines += _section("Failed", failed(report))
    for entry in report["explanations"]:
        lines += _section(f"Where the fault of {entry['variant']} is", entry["lines"])
    return lines


def _headroom(report: Mapping[str, Any]) -> list[str]:
    variants = [candidate["variant"] for candidate in report["candidates"]]
    rows = []
    for name, entries in grouped(report["headroom"]):
        cells = [entries.get(variant) for variant in variants]
        rows.append([name, *("-" if entry is None else percent(entry["used"]) for entry in cells)])
    what = "Share of each tolerance that is used, the worst over the levels: 100 % is the bound."
    return ["## Head-room", "", what, "", *_table(["measure", *variants], rows), ""] if rows else []


def _measures(report: Mapping[str, Any], candidate: Mapping[str, Any]) -> list[str]:
    rows = [
        [
            column(result),
            place(result),
            m["name"],
            value_text(m),
            bound_text(m),
            m["compared"],
            "yes" if m["passed"] else "**no**",
            m["detail"],
        ]
        for result in report["results"]
        if result["variant"] == candidate["variant"]
        for m in result["measures"]
    ]
    about = f"`{candidate['file']}`, {candidate['bytes']} bytes, sha256 `{candidate['sha256']}`"
    return [f"### {_text(candidate['variant'])}", "", about, "", *_table(MEASURES, rows), ""]


def _prompts(report: Mapping[str, Any]) -> list[str]:
    """The user's own prompts: the measures, then prompt by prompt the answers beside each other."""
    if not report["prompts"]:
        return []
    lines = ["## Your prompts", "", f"{_text(about(report))}.", "", *_table(HEADS, prompt_rows(report)), ""]
    for entry in asked(report):
        lines += [f"### {_text(entry.name)}", "", f"… {_text(entry.prompt)}", ""]
        cells = [(a.variant, a.text, a.difference, kld_text(a)) for a in entry.answers]
        heads = ("", "answer", "first difference", "KLD, nats")
        lines += [*_table(heads, [(against(report), entry.reference, "", ""), *cells]), ""]
    return lines


def _section(title: str, items: Sequence[str]) -> list[str]:
    return [f"## {title}", "", *(f"- {_text(item)}" for item in items), ""] if items else []


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    lines = ["| " + " | ".join(map(_text, heads)) + " |", "|" + "---|" * len(heads)]
    return lines + ["| " + " | ".join(_text(str(cell)).replace("|", "\\|") for cell in row) + " |" for row in rows]


def _text(text: str) -> str:
    """One line without markup of HTML: names and details come from foreign files."""
    return text.replace("\n", " ").replace("&", "&amp;").replace("<", "&lt;")
