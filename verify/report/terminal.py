"""The report's overview on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from verify.report.document import failed, moved, not_run, overview


def show(report: Mapping[str, Any]) -> None:
    """Print the table of variants, the failures and the verdict on stderr."""
    console = Console(stderr=True, highlight=False)
    heads, rows = overview(report)
    table = Table(title=f"{report['name']}: ONNX against PyTorch")
    for head in heads:
        table.add_column(head, justify="left" if head in ("variant", "checks", "runtimes") else "right")
    for variant, verdict, *figures in rows:
        table.add_row(variant, f"[{'bold red' if verdict.startswith('FAIL') else 'green'}]{verdict}[/]", *figures)
    console.print(table)
    for line in failed(report):
        console.print(f"[red]failed[/] {escape(line)}")
    if report["not_judged"]:
        console.print(f"[yellow]not judged[/] (not built, or not chosen): {', '.join(report['not_judged'])}")
    if report["not_run"]:
        console.print(f"[yellow]not run[/], so not passed: {escape('; '.join(not_run(report)))}")
    for line in moved(report):
        console.print(f"[yellow]moved[/] {escape(line)}")
    if moved(report):
        changed = ", ".join(report["history"]["changed"]) or "nothing that is recorded"
        console.print(f"[yellow]since the run before[/] changed: {escape(changed)}")
    console.print(f"verdict: [{'green' if report['verdict'] == 'passed' else 'bold red'}]{report['verdict']}[/]")
