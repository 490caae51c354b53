"""The tasks of one recipe: which stage's command, on which variants, with how much memory, and who runs them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pipeline.errors import CHECK_FAILED, PipelineError
from pipeline.recipe.recipe import Recipe
from pipeline.recipe.steps import calibrated
from reconvert.origin import Origin
from reconvert.state import Way

GIB = 2**30
LIBRARIES = GIB  # torch, transformers and onnxruntime loaded: about half of it, with room
COPIES = {"convert": 6, "quantize": 10, "verify": 8}  # of the float32 weights that a stage holds at a time, with room
GRADIENTS = 3  # more of them, where quantize takes gradients
VERDICT = re.compile(r"\berror: .*|^failed .*")  # an error may follow a progress bar that ended no line


@dataclass(frozen=True)
class Command:
    """One command, `python -m STAGE ...`."""

    stage: str
    label: str
    command: tuple[str, ...]
    log: Path
    memory: int  # bytes to ask a scheduler for: an estimate from the model's size, no limit


class StageError(PipelineError):
    """A stage has ended with an exit code that is neither 0 nor the network's."""

    exit_code = CHECK_FAILED

    def __init__(self, what: str, *, where: object, hint: str, stage: str = "") -> None:
        super().__init__(what, where=where, hint=hint)
        self.stage = stage


@dataclass(frozen=True)
class Options:
    """Hold what the command line says of the executor."""

    address: str | None


class Executor(Protocol):
    """Run tasks somewhere. A new one is a file in reconvert/executors with a function `open_executor`."""

    @property
    def at_once(self) -> int:
        """Return how many recipes run at a time."""

    @property
    def spreads(self) -> bool:
        """Return whether the variants of one recipe are tasks of their own."""

    async def run(self, task: Command) -> int:
        """The command's exit code. UnavailableError when the place where it ran was lost."""


class Opener(Protocol):
    """The signature of an executor module's `open_executor`; RecipeError for options it has no use for."""

    def __call__(self, options: Options) -> AbstractAsyncContextManager[Executor]:
        """An executor that is usable inside the context."""


def plan(recipe: Recipe, origin: Origin, build: Path, prefix: Path, *, spreads: bool) -> Iterator[tuple[Command, ...]]:
    """Steps one after the other, each of tasks that may run side by side. `prefix` begins the logs' names."""
    tail = (str(recipe.path.resolve()), "--build", str(build.resolve()))
    commit = ("--commit", origin.commit) if origin.commit is not None else ()

    def task(stage: str, *more: str, label: str = "", variants: Iterable[str] = recipe.variants) -> Command:
        label = label or stage
        log = prefix.with_name(f"{prefix.name}-{label.replace(' ', '-')}.log")
        return Command(stage, label, (stage, *tail, *more), log, memory(stage, recipe, origin, variants))

    yield (task("convert", *commit),)
    if spreads:
        yield tuple(
            task("quantize", "--variant", name, label=f"quantize {name}", variants=[name]) for name in recipe.variants
        )
    elif recipe.variants:
        yield (task("quantize"),)
    yield (task("verify"),)


def publication(recipe: Recipe, way: Way, build: Path, prefix: Path) -> Command:
    """The task that publishes what was verified."""
    command = ("publish", str(recipe.path.resolve()), f"--{way}", "--build", str(build.resolve()))
    return Command("publish", "publish", command, prefix.with_name(f"{prefix.name}-publish.log"), LIBRARIES)


def memory(stage: str, recipe: Recipe, origin: Origin, variants: Iterable[str]) -> int:
    """Bytes that a stage may need for these variants: its libraries, and copies of the weights in float32."""
    parameters = recipe.source.expect.parameters
    weights = 4 * parameters if parameters is not None else 2 * origin.weight_bytes  # stored in 16 bits, at worst
    calibration = recipe.calibration
    takes = stage == "quantize" and calibration is not None and calibration.gradients
    gradients = takes and any(calibrated(recipe.variants[name].steps) for name in variants)
    return LIBRARIES + (COPIES[stage] + (GRADIENTS if gradients else 0)) * weights


def last_words(log: Path) -> str:
    """The line of a log that says best why its command failed: its last error, or what it said last."""
    text = log.read_text(encoding="utf-8", errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    errors = [found[0] for line in lines if (found := VERDICT.search(line))]
    return [*lines[-1:], *errors][-1] if lines else "it said nothing"
