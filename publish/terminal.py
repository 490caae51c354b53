"""The plan as a table on the terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from publish import plan
from publish.hub import Head
from publish.plan import Changes, LocalFile


def show(made: Changes, here: Mapping[str, LocalFile], head: Head | None, title: str) -> None:
    """Print what would happen to every file, with its bytes, on stderr."""
    table = Table(title=title)
    table.add_column("file")
    table.add_column("change")
    table.add_column("bytes", justify="right")
    changes = {"add": made.add, "replace": made.replace, "delete": made.delete, "unchanged": made.unchanged}
    rows = [(path, change) for change, paths in changes.items() for path in paths]
    for path, change in sorted(rows):
        size = here[path].size if path in here else head.files[path].size if head else 0
        table.add_row(escape(path), change, f"{size:,}")
    console = Console(stderr=True, highlight=False)
    console.print(table)
    counts = ", ".join(f"{len(paths)} {change}" for change, paths in changes.items())
    sent = plan.size(here, (*made.add, *made.replace))
    console.print(f"{counts}; at most {sent:,} bytes to send")
