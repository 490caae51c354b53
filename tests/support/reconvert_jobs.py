"""Run reconvert as a job, watch it, end it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

TEXT = "the quick brown fox jumps over the lazy dog, 12 times. " * 20

RECIPE = """
name = "{name}"
architecture = "gpt2"
[source]
{source}
[variants]
{variants}
[verify]
text = "text.txt"
checks = ["structure", "logits"]
levels = ["disable_all"]
logits.lengths = [1, 7]
logits.batches = [[3, 5]]
"""

FIGURES = (
    "structure.bytes_per_parameter",
    "logits.max_abs",
    "logits.near_ties",
    "logits.batch_dependence",
    "logits.on_demand",
)


Q8 = {"q8": '[{ scheme = "rtn", bits = 8, block = 32 }]'}


def write_recipe(home: Path, name: str, source: str, variants: dict[str, str]) -> Path:
    """A recipe whose bounds any tiny model keeps: what is tested here is who runs what, when."""
    steps = "\n".join(f"{variant}.steps = {text}" for variant, text in variants.items())
    text = RECIPE.format(name=name, source=source, variants=steps)
    for figure in FIGURES:
        text += f'[tolerances.{figure}]\nreason = "random weights"\n'
        text += "".join(f"{variant} = {{ max = 99, measured = 1 }}\n" for variant in ("fp32", *variants))
    path = home / f"{name}.toml"
    path.write_text(text)
    home.joinpath("text.txt").write_text(TEXT)
    return path


def wait(what: Callable[[], object], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def alive(mark: Path) -> Sequence[str]:
    """Command lines of the processes that work in a directory."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            try:
                line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if str(mark) in line:
                found.append(line)
    return found
