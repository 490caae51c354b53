"""python -m benchmarks.cost RECIPE [--build DIR] [--rounds N] [--tokens N] [--only NAME ...]: the pipeline's cost."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.cost import pipeline
from benchmarks.cost.derived import derive, without_browser
from benchmarks.cost.growth import Point, measure, plan
from benchmarks.cost.passes import graphs
from benchmarks.cost.usage import Usage
from benchmarks.progress import progress
from pipeline import command
from pipeline.artifact.store import open_artifact
from pipeline.errors import PASSED, RecipeError
from pipeline.plugins import ROOT
from pipeline.recipe.recipe import Recipe, read_recipe

PARTS = ("convert", "quantize", "verify", "verdict", "growth")
CHUNK = 512


def main(argv: Sequence[str] | None) -> int:
    """Measure convert, quantize, verify, the whole verdict and growth; prints the path of cost.md."""
    parser = command.parser("benchmarks.cost", "Measure what convert, quantize and verify cost.")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="how often convert is measured (3)")
    parser.add_argument("--tokens", type=int, default=32768, metavar="N", help="tokens that verify compares (32768)")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="NAME", help=", ".join(PARTS))
    arguments = parser.parse_args(argv)
    recipe = read_recipe(arguments.recipe)
    if arguments.rounds < 1 or arguments.tokens < CHUNK:
        hint = f"write --rounds 1 or more, and --tokens {CHUNK} or more"
        raise RecipeError("nothing would be measured", where="--rounds, --tokens", hint=hint)
    os.environ["HF_HUB_OFFLINE"] = "1"
    home = arguments.build / recipe.name
    source = open_artifact(home / "source", made_by=command.invocation("convert", recipe.path, arguments.build))
    chunk = min(CHUNK, int(source.manifest.facts["dimensions"]["context"]))
    tokens = arguments.tokens // chunk * chunk
    directory = home / "benchmarks"
    logs = directory / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    runs: dict[str, list[Usage]] = {}
    growth: tuple[Point, ...] = ()
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        if "convert" in arguments.only:
            runs |= _convert(recipe, source.path, logs, arguments.rounds)
        if "quantize" in arguments.only:
            runs["quantize"] = [_quantize(recipe, home, Path(scratch))]
        if "verify" in arguments.only:
            runs |= _verify(recipe, home, Path(scratch), chunk, tokens)
        if "verdict" in arguments.only:
            runs["verdict"] = [_verdict(recipe, home, Path(scratch))]
        if "growth" in arguments.only:
            growth = _growth(Path(scratch), logs)

    from benchmarks.cost.report import Cost, write  # what draws is large, and a child's peak begins with its parent's
    from benchmarks.environment import environment

    candidates = len(list(graphs(recipe, home)))
    place = environment(len(os.sched_getaffinity(0)))
    print(write(Cost(recipe.name, tokens, candidates, runs, growth, place), directory))
    return PASSED


def _convert(recipe: Recipe, source: Path, logs: Path, rounds: int) -> dict[str, list[Usage]]:
    """Both exporters in turns, each into an empty directory every time."""
    runs: dict[str, list[Usage]] = {"convert": [], "optimum-cli": []}
    for number in progress("convert", range(rounds)):
        with tempfile.TemporaryDirectory(dir=logs.parent) as place:
            tasks: list[Callable[[], Usage]] = [
                lambda: pipeline.convert(recipe.path, source, Path(place, "ours"), logs / "convert.txt"),
                lambda: pipeline.optimum(source, Path(place, "theirs"), logs / "optimum-cli.txt"),
            ]
            turn = list(zip(runs, tasks, strict=True))
            for name, task in turn if number % 2 == 0 else reversed(turn):
                runs[name].append(task())
    return runs


def _quantize(recipe: Recipe, home: Path, scratch: Path) -> Usage:
    """All variants from the fp32 graph alone, once: nothing of an earlier run is there to continue from."""
    with pipeline.mirror(recipe, home, scratch, ()) as build:
        return pipeline.quantize(recipe.path, build, home / "benchmarks" / "logs" / "quantize.txt", recipe.variants)


def _verify(recipe: Recipe, home: Path, scratch: Path, chunk: int, tokens: int) -> dict[str, list[Usage]]:
    """Verify, and the passes that it cannot do without, over the same tokens.

    Once: all take minutes, and noise is small beside that.
    """
    path, logs = derive(recipe, scratch, chunk=chunk, chunks=tokens // chunk), home / "benchmarks" / "logs"
    with pipeline.mirror(recipe, home, scratch, recipe.variants) as build:
        return {
            "reference": [pipeline.passes(path, build, logs / "reference-pass.txt")],
            "verify": [pipeline.verify(path, build, logs / "verify.txt")],
            "candidates": [pipeline.passes(path, build, logs / "candidates-pass.txt", "--candidates")],
        }


def _verdict(recipe: Recipe, home: Path, scratch: Path) -> Usage:
    """All checks and all runtimes but the browser, once."""
    with pipeline.mirror(recipe, home, scratch, recipe.variants) as build:
        return pipeline.verdict(without_browser(recipe, scratch), build, home / "benchmarks" / "logs" / "verdict.txt")


def _growth(scratch: Path, logs: Path) -> tuple[Point, ...]:
    embedded = read_recipe(ROOT / "recipes" / "embedded.toml")
    return tuple(progress("growth", measure(embedded, scratch, logs), total=len(plan())))


if __name__ == "__main__":
    raise SystemExit(command.run(main))
