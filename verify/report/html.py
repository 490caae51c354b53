"""The report as one HTML page that needs nothing else: no script, no font, no network."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from verify.report import layers
from verify.report.document import bound_text, column, failed, moved, overview, place, reasons, value_text
from verify.report.figures import figures, variants
from verify.report.headroom import grouped, percent
from verify.report.prompts import HEADS, about, asked, kld_text
from verify.report.prompts import rows as prompt_rows
from verify.report.sentence import against, not_judged, not_run, sentence, verdict
from verify.report.texts import texts

TEMPLATE = "report.html.j2"
NEAR = 0.9  # share of a tolerance from which the page points it out


@dataclass(frozen=True)
class Cell:
    """One check of one variant: results at every level, and the place in the page that shows them."""

    anchor: str
    check: str
    passed: bool
    results: Sequence[Mapping[str, Any]]


def html(report: Mapping[str, Any]) -> str:
    """The page. Everything that is not the template's or matplotlib's own markup is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "value": value_text,
        "bound": bound_text,
        "percent": percent,
        "markup": Markup,
        "figure": _figure,
        "breakable": _breakable,
    }
    columns, cells = _matrix(report)
    heads, rows = overview(report)
    measures = [m for result in report["results"] for m in result["measures"]]
    return environment.get_template(TEMPLATE).render(
        report=report,
        place=place,
        columns=columns,
        cells=cells,
        headlines=heads[2:],
        figures_of={row[0]: row[2:] for row in rows},
        held=sum(1 for m in measures if m["passed"]),
        measured=len(measures),
        failures=failed(report),
        sentence=sentence(report),
        against=against(report),
        verdict=verdict(report),
        not_judged=not_judged(report),
        left_out=not_run(report, part=True),
        moved=moved(report),
        headroom=list(grouped(report["headroom"])),
        near=NEAR,
        layers={
            "about": layers.about(report),
            "table": layers.table(report),
            "absent": layers.not_measured(report),
        },
        variants=variants(report),
        plots=figures(report),
        texts=texts(report),
        reasons=reasons(report),
        prompts=asked(report),
        about_prompts=about(report) if report["prompts"] else "",
        prompt_heads=HEADS,
        prompt_rows=list(prompt_rows(report)),
        kld_text=kld_text,
    )


def _matrix(report: Mapping[str, Any]) -> tuple[list[str], dict[str, list[Cell | None]]]:
    """Columns (checks, in each runtime apart), and for each variant a cell per column; None where it has no result."""
    columns = list(dict.fromkeys(column(result) for result in report["results"]))
    cells: dict[str, list[Cell | None]] = {}
    for row, variant in enumerate(variants(report)):
        cells[variant] = []
        for number, name in enumerate(columns):
            own = [r for r in report["results"] if r["variant"] == variant and column(r) == name]
            cell = Cell(f"v{row}c{number}", name, all(r["passed"] for r in own), own)
            cells[variant].append(cell if own else None)
    return columns, cells


def _figure(entry: Mapping[str, Any]) -> str:
    return "not finite" if entry["value"] is None else f"{entry['value']:.3g}"


def _breakable(name: str) -> Markup:
    """A name that a narrow column may break at its dots and underscores."""
    return Markup("<wbr>").join(re.split(r"(?<=[._])", name))  # join escapes the parts
