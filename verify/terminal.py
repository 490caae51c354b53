"""The report's overview on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from verify.report import failed, not_run, overview


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
    for line in not_run(report):
        console.print(f"[yellow]not run[/], so not passed: {escape(line)}")
    console.print(f"verdict: [{'green' if report['verdict'] == 'passed' else 'bold red'}]{report['verdict']}[/]")
