"""The forms that a report has, each a file of its artifact."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from verify.report import FILES
from verify.report.html import html
from verify.report.junit import junit
from verify.report.markdown import markdown

Form = Callable[[Mapping[str, Any]], str]


def as_json(report: Mapping[str, Any]) -> str:
    """The document itself; NaN and infinity, which JSON has not, are refused with ValueError."""
    return json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


FORMS: dict[str, Form] = {"json": as_json, "markdown": markdown, "html": html, "junit": junit}


def write(report: Mapping[str, Any], directory: Path) -> None:
    """Write the report in every form."""
    for name, form in FORMS.items():
        (directory / FILES[name]).write_text(form(report), encoding="utf-8")
