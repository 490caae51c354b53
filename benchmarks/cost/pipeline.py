"""The commands whose cost is measured, and what each is measured against."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.cost.usage import Usage, timed
from pipeline.errors import CHECK_FAILED, PASSED
from pipeline.recipe.recipe import Recipe
from verify.runtimes.optimum.environment import program

PYTHON = Path(sys.executable)


def convert(recipe: Path, source: Path, build: Path, log: Path) -> Usage:
    """`python -m convert` of a checkpoint directory into a build directory."""
    return timed([PYTHON, "-m", "convert", recipe.resolve(), "--source", source, "--build", build], log)


def optimum(source: Path, target: Path, log: Path) -> Usage:
    """`optimum-cli export onnx` of the same checkpoint, as its documentation has it."""
    command = program("optimum-cli")
    task = ("--task", "text-generation-with-past")
    return timed([command, "export", "onnx", "--model", source, *task, target], log)


def quantize(recipe: Path, build: Path, log: Path, variants: Iterable[str]) -> Usage:
    """`python -m quantize` of the named variants."""
    return timed([PYTHON, "-m", "quantize", recipe.resolve(), "--build", build, "--variant", *variants], log)


def verify(recipe: Path, build: Path, log: Path, variants: Sequence[str] = ()) -> Usage:
    """`python -m verify`; a verdict that is not a pass costs as much, and random weights need not pass."""
    named = ["--variant", *variants] if variants else []  # without names, all that is built
    command = [PYTHON, "-m", "verify", recipe.resolve(), "--no-runtimes", "--build", build, *named]
    return timed(command, log, codes=(PASSED, CHECK_FAILED))


def verdict(recipe: Path, build: Path, log: Path) -> Usage:
    """`python -m verify` of all that is built, by all checks and runtimes of the recipe."""
    return timed([PYTHON, "-m", "verify", recipe.resolve(), "--build", build], log, codes=(PASSED, CHECK_FAILED))


def passes(recipe: Path, build: Path, log: Path, *options: str) -> Usage:
    """The PyTorch reference alone on the same tokens, or with "--candidates" the graphs that are built."""
    return timed([PYTHON, "-m", "benchmarks.cost.passes", recipe.resolve(), "--build", build, *options], log)


@contextmanager
def mirror(recipe: Recipe, home: Path, beside: Path, variants: Iterable[str]) -> Iterator[Path]:
    """A build directory with links to artifacts of `home`: what stages write there spares the real results."""
    with tempfile.TemporaryDirectory(dir=beside) as scratch:
        copy = Path(scratch) / recipe.name
        copy.mkdir()
        for name in ("source", "fp32", *variants):
            if (home / name).is_dir():
                (copy / name).symlink_to((home / name).resolve())
        yield Path(scratch)
