"""python docs/commands.py [--check]: write docs/commands.md from what every command says of itself.

The commands are the packages with a `__main__.py` and the modules below that are run by name. With `--check` nothing is
written; exit code 1 says that the page is not current.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "commands.md"
STAGES = (
    "convert",
    "quantize",
    "verify",
    "publish",
    "reconvert",
    "benchmarks",
)  # in the order of their use; then the rest
MODULES = ("publish.serve", "recipes.train", "tests.advisories", "tests.fuzz", "tests.fuzz_checkpoints")  # one file
WIDTH = 100
HEAD = """# Commands

Made by `python docs/commands.py` from each command's `--help`; a test holds it current. Run them from the project's
root with the environment's Python; `make help` lists the targets that do so. Exit codes: [README](../README.md).
"""


def main() -> int:
    """Write the page, or compare it."""
    return write(PAGE, page, "python docs/commands.py")


def write(place: Path, make: Callable[[], str], command: str) -> int:
    """Write a page that is made from the code; with `--check` compare it, and return 1 if it is not current."""
    name = place.relative_to(ROOT).as_posix()
    parser = argparse.ArgumentParser(prog=command, description=f"Write {name}.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if the page is not current")
    arguments = parser.parse_args()
    text = make()
    if not arguments.check:
        place.write_text(text, encoding="utf-8")
        return 0
    if place.read_text(encoding="utf-8") == text:
        return 0
    print(f"{name} is not current; run: {command}", file=sys.stderr)
    return 1


def page() -> str:
    """The page's text: a section for each command with its `--help`."""
    names = list(commands())
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        texts = list(threads.map(help_of, names))
    sections = [f"## python -m {name}\n\n```text\n{text}```\n" for name, text in zip(names, texts, strict=True)]
    return "\n".join([HEAD, *sections])


def commands() -> Iterator[str]:
    """Every command by the name that `python -m` takes: the stages first, each with those of its rooms behind it."""
    packages = {
        path.parent.relative_to(ROOT)
        for path in ROOT.glob("[a-z]*/**/__main__.py")
        if not {"build", "node_modules"} & {*path.parts}
    }
    names = {".".join(package.parts) for package in packages} | set(MODULES)
    order = {stage: place for place, stage in enumerate(STAGES)}
    yield from sorted(names, key=lambda name: (order.get(name.partition(".")[0], len(order)), name))


def help_of(name: str) -> str:
    """Return what the command prints for `--help`, in lines of at most WIDTH characters.

    The usage is wrapped here: versions of Python break its groups at different places.
    """
    command = [sys.executable, "-m", name, "--help"]
    environment = {**os.environ, "COLUMNS": str(WIDTH)}
    text = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True).stdout
    usage, _, rest = text.partition("\n\n")
    kept = re.sub(r"\[(?:[^\[\]]|\[[^\[\]]*\])*\]", lambda group: group[0].replace(" ", "\0"), " ".join(usage.split()))
    indent = " " * len(f"usage: python -m {name} ")
    lines = textwrap.wrap(kept, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return "\n".join([*lines, "", rest]).replace("\0", " ")


if __name__ == "__main__":
    sys.exit(main())
