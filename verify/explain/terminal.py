"""Explanations on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from pipeline.canonical import read_json
from verify.explain.explanation import Explanation, lines

LOUD = ("node", "what")


def show_stored(directory: Path) -> None:
    """Print what `explain.json` of a report's directory says on stderr."""
    table: Mapping[str, Any] = read_json(directory / "explain.json")
    show([Explanation(**entry) for entry in table["explanations"]])


def show(explanations: Sequence[Explanation]) -> None:
    """Print explanations on stderr."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    for entry in explanations:
        console.print(f"[bold]{escape(entry.variant)}: where the fault is[/]")
        for line in lines(entry):
            name, colon, rest = line.partition(":")
            style = "bold red" if name in LOUD else "dim"
            console.print(f"  [{style}]{escape(name + colon)}[/]{escape(rest)}")
