"""The model card."""

from __future__ import annotations

from publish.tree import Published


def render(about: Published) -> str:
    """README.md: front matter, and a table of the files."""
    rows = [f"| `{entry.path}` | {entry.size} |" for entry in about.files]
    front = ["---", f"license: {about.source.source['license']}", "library_name: transformers.js", "---", ""]
    return "\n".join([*front, f"# {about.repository}", "", "| file | bytes |", "|---|---|", *rows, ""])
