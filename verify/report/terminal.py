"""The report's overview on the terminal, whole at 80 columns: what a log has, and what rich assumes without a terminal.

A row is a check or a runtime and a column a variant, because recipes have up to eight variants with short names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from verify.report import layers
from verify.report.document import failed, moved, overview, passes
from verify.report.prompts import about, asked, kld_text
from verify.report.sentence import against, sentence

SHOWN = 5  # prompts; the report has them all
WIDE = 9  # columns beyond which a table has less space between them, or 80 characters would break its words
STATES = {True: "[green]pass[/]", False: "[bold red]FAIL[/]", None: "-"}


def show(report: Mapping[str, Any]) -> None:
    """Print figures, checks and runtimes of every variant, what failed or moved, and the verdict, on stderr."""
    console = Console(stderr=True, highlight=False)
    console.print(f"\n[bold]{escape(report['name'])}: ONNX against {escape(against(report))}[/]")
    console.print(_figures(report), _checks(report))
    if report["prompts"]:
        _prompts(console, report)
    farthest = layers.farthest(report)
    if farthest:
        _say(console, "own error", "dim", f"the largest of a module, as a share: {farthest}")
    for line in layers.not_measured(report):
        _say(console, "layers", "dim", line)
    for line in failed(report):
        _say(console, "failed", "bold red", line)
    for line in report["notices"]:
        _say(console, "note", "yellow", line)
    for line in moved(report):
        _say(console, "moved", "yellow", line)
    if moved(report):
        changed = ", ".join(report["history"]["changed"]) or "nothing that is recorded"
        _say(console, "changed", "yellow", f"since the run before: {changed}")
    _say(console, "verdict:", "green" if report["verdict"] == "passed" else "bold red", sentence(report))


def _prompts(console: Console, report: Mapping[str, Any]) -> None:
    """The first prompts, each with the answers beside each other."""
    _say(console, "prompts", "bold", about(report))
    for entry in asked(report)[:SHOWN]:
        _say(console, f"  {entry.name}", "bold", f"… {entry.prompt}")
        _say(console, "    reference", "dim", entry.reference)
        for answer in entry.answers:
            what = f"(first difference: {answer.difference}; KLD {kld_text(answer)})"
            _say(console, f"    {answer.variant}", "dim", f"{answer.text} {what}")
    if report["prompts"]["count"] > SHOWN:
        console.print(f"  ... and {report['prompts']['count'] - SHOWN} more in the report")


def _figures(report: Mapping[str, Any]) -> Table:
    """A row per variant: the file's size and the headline measures."""
    heads, rows = overview(report)
    table = _table(["variant", "MB", *heads[2:-1]])
    sizes = {entry["variant"]: f"{entry['bytes'] / 1e6:.1f}" for entry in report["candidates"]}
    for variant, _, *figures, _ in rows:
        table.add_row(*map(escape, (variant, sizes[variant], *figures)))
    return table


def _checks(report: Mapping[str, Any]) -> Table:
    """A row per check, then one per runtime; a column per variant."""
    variants = [entry["variant"] for entry in report["candidates"]]
    table = _table(["check, runtime", *variants])
    checks, runtimes = passes(report)
    for group in (checks, runtimes):
        for name, states in group.items():
            table.add_row(escape(name), *(STATES[states[variant]] for variant in variants))
        table.add_section()
    return table


def _table(heads: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, collapse_padding=len(heads) > WIDE)
    for place, head in enumerate(heads):
        table.add_column(escape(head), justify="right" if place else "left", overflow="fold")
    return table


def _say(console: Console, label: str, style: str, text: str) -> None:
    """A label and text beside it, broken between words."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(style=style, no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row(label, escape(text))
    console.print(grid)
