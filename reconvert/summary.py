"""A cycle's result: a table for people on stderr, JSON for machines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from reconvert.cycle import Row

SCHEMA = 1
COLOURS = {"skipped": "dim", "converted": "green", "published": "green", "busy": "yellow"}


def show(rows: Sequence[Row]) -> None:
    """Print the table on stderr."""
    table = Table(title="reconversion")
    for head in ("recipe", "action", "reason"):
        table.add_column(head, overflow="fold")
    table.add_column("seconds", justify="right")
    for row in rows:
        action = f"[{COLOURS.get(row.action, 'bold red')}]{row.action}[/]"
        table.add_row(row.recipe, action, escape(row.reason), f"{row.seconds:.1f}")
    Console(stderr=True, highlight=False).print(table)


def document(rows: Sequence[Row], time: str) -> str:
    """The JSON text: schema, the time when the run began, and a row for every recipe."""
    return json.dumps({"schema": SCHEMA, "started": time, "rows": [asdict(row) for row in rows]}, indent=2) + "\n"
