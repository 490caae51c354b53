"""releases.json and releases.md of one run; and docs/releases.md from all that is kept."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.releases.questions import NEW_TOKENS, PROMPTS, ROWS, STEPS
from benchmarks.report import table
from model.releases import DIFFERS, FOLDER, PROGRAMS, RIGHT, ReleasedFile, Table, range_of, read
from pipeline.variants import FILES

HEADINGS = {
    "python": "onnxruntime, Python",
    "node": "Transformers.js in Node, on onnxruntime-node",
    "wasm": "onnxruntime-web's WebAssembly, the build that Transformers.js loads in browsers",
    "plain wasm": "onnxruntime-web's WebAssembly, the build that Transformers.js loads in old Safari",
}
LONGER, PADDED = (", ".join(map(str, lengths[:-1])) for lengths in (PROMPTS, ROWS))
INTRODUCTION = f"""Each release is installed by itself and run in processes of its own, with its own defaults and one
thread. *Right* is: every logit within the recipe's tolerances of PyTorch's float32, at every position of prompts of
{LONGER} and {PROMPTS[-1]} tokens, of a batch of {PADDED} and {ROWS[-1]} tokens that is padded on the left, and of
{STEPS} steps behind each. Transformers.js in Node is asked for {NEW_TOKENS} tokens behind such texts, and the likeliest
tokens' logits are compared. WebAssembly runs in Node, by onnxruntime-web alone. *Refused* does not load, *fails* loads
and cannot answer. A form is what decides which releases load a file, whatever its weights and sizes are
(`model/form.py`); a file of another form was not measured."""


def write(found: Table, directory: Path, *, keep: bool) -> Path:
    """Write the run's own files and, to keep it, docs/releases; the path of the page that shows it."""
    text = json.dumps(asdict(found), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    (directory / "releases.json").write_text(text, encoding="utf-8")
    path = directory / "releases.md"
    path.write_text(page([found]), encoding="utf-8")
    if keep:
        FOLDER.mkdir(exist_ok=True)
        (FOLDER / f"{found.name}.json").write_text(text, encoding="utf-8")
        path = FOLDER.with_suffix(".md")
        path.write_text(page(read()), encoding="utf-8")
    return path


def page(tables: Iterable[Table]) -> str:
    """Return the whole page."""
    return "\n".join(["# Which releases load the files", "", INTRODUCTION, "", *(_model(found) for found in tables)])


def _model(found: Table) -> str:
    """Return the part about one recipe's files."""
    variants = [name for name in FILES if name in found.files]
    lines = [f"## {found.name}", "", f"Measured by `{found.command}` on {found.date}, on {found.processor}.", ""]
    lines += [*_ranges(found, variants), ""]
    messages: dict[str, int] = {}
    for program, heading in HEADINGS.items():
        entries = [entry for entry in found.entries if entry.program == program]
        if entries:
            lines += [f"### {heading}", "", *_releases(entries, variants, messages), ""]
    if messages:
        lines += ["### What they said", "", *(f"{number}. `{text}`" for text, number in messages.items()), ""]
    return "\n".join(lines)


def _ranges(found: Table, variants: Sequence[str]) -> list[str]:
    """Return the table of what each file needs."""
    programs = [name for name in PROGRAMS if any(entry.program == name for entry in found.entries)]
    rows = []
    for variant in variants:
        own = {name: [e for e in found.entries if (e.program, e.variant) == (name, variant)] for name in programs}
        rows.append((variant, *(str(range_of(own[name])) for name in programs), found.files[variant].form[:12]))
    return table(("right in", *(PROGRAMS[name] for name in programs), "form"), rows)


def _releases(entries: Sequence[ReleasedFile], variants: Sequence[str], messages: dict[str, int]) -> list[str]:
    """Return the table of one program: a row for each release. `messages` collects what was said, numbered."""
    rows = []
    for release in dict.fromkeys(entry.release for entry in entries):
        own = {entry.variant: entry for entry in entries if entry.release == release}
        engine = next(iter(own.values())).engine.partition(" ")[2]  # the heading says of what
        name = release if engine == release else f"{release} ({engine})"
        rows.append((name, *(_cell(own[variant], messages) for variant in variants)))
    return table(("release", *variants), rows)


def _cell(entry: ReleasedFile, messages: dict[str, int]) -> str:
    if entry.verdict == RIGHT:
        return RIGHT
    if entry.verdict == DIFFERS:
        padded = "batch " if all(name.startswith("batch") for name in entry.wrong) else ""
        error = "infinity" if entry.error is None else f"{entry.error:.2g}"
        return f"{padded}off by {error}, {entry.allowed:.2g} allowed"
    return f"{entry.verdict} ({messages.setdefault(entry.message, len(messages) + 1)})"
