"""The verdict in plain words, the same in every form of the report: what passed, what failed, what was not judged."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

NOT_THERE = "not built, or not chosen"


def against(report: Mapping[str, Any]) -> str:
    """Return what the candidates were held against, in one word where it is PyTorch."""
    source = report["source"]
    return f"the ONNX file {source['file']}" if source.get("origin") == "onnx" else "PyTorch"


def sentence(report: Mapping[str, Any]) -> str:
    """Return the verdict with everything that it does not cover, each with its reason."""
    absent, less = not_judged(report), _asked_less(report)
    words = [verdict(report), *([f"not judged: {'; '.join(absent)}"] if absent else [])]
    words += [f"asked a part of the questions, as the recipe says: {', '.join(less)}"] if less else []
    return "; ".join(words)


def verdict(report: Mapping[str, Any]) -> str:
    """Return "passed", "passed for what was judged" where something was left out, or "failed" and by what."""
    if report["verdict"] == "passed":
        return "passed for what was judged" if not_judged(report) else "passed"
    bad = dict.fromkeys(result["variant"] for result in report["results"] if not result["passed"])
    lacking = [entry["what"] for entry in report["not_run"] if entry["required"]]
    why = [f"{', '.join(bad)} did not pass"] if bad else []
    own = report["prompts"]["results"] if report["prompts"] else []
    bad = dict.fromkeys(result["variant"] for result in own if not result["passed"])
    why += [f"{', '.join(bad)} did not pass on your prompts"] if bad else []
    why += [f"the recipe requires {', '.join(lacking)}"] if lacking else []
    return f"failed: {'; '.join(why) or 'nothing was judged'}"


def not_judged(report: Mapping[str, Any]) -> list[str]:
    """Return what was not judged, for each reason once: variants, checks, runtimes, or some of their configurations."""
    by_reason: dict[str, list[str]] = {NOT_THERE: list(report["not_judged"])} if report["not_judged"] else {}
    for entry in _entries(report, part=False):
        what = f"{entry['what']}, which the recipe requires" if entry["required"] else entry["what"]
        by_reason.setdefault(entry["reason"], []).append(what)
    return [f"{', '.join(what)} ({reason})" for reason, what in by_reason.items()]


def not_run(report: Mapping[str, Any], *, part: bool) -> list[str]:
    """Return what was not run, each with its reason; or, as `part`, the questions that the recipe leaves out."""
    return [f"{entry['what']}: {entry['reason']}" for entry in _entries(report, part=part)]


def _asked_less(report: Mapping[str, Any]) -> list[str]:
    """The runtimes that are asked a part of the questions, each once."""
    return [*dict.fromkeys(re.split("[;:]", entry["what"])[0] for entry in _entries(report, part=True))]


def _entries(report: Mapping[str, Any], *, part: bool) -> list[Mapping[str, Any]]:
    return [entry for entry in report["not_run"] if entry["part"] is part]
