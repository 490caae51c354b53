"""python -m benchmarks.accuracy RECIPE --data DIR [--variant NAME ...] [--only NAME ...] [--limit N] [--build DIR]."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.accuracy.suite import Unit, choose, units
from pipeline import command, variants
from pipeline.artifact.store import Artifact, open_artifact
from pipeline.command import invocation, say
from pipeline.errors import PASSED, RecipeError
from pipeline.recipe.recipe import Recipe, read_recipe
from pipeline.typed import did_you_mean


def main(argv: Sequence[str] | None) -> int:
    """Score the reference and the variants; prints the path of accuracy.md."""
    parser = command.parser("benchmarks.accuracy", "Scoring the source card's benchmarks on what was built.")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="directory of the data, JSON lines")
    parser.add_argument("--variant", nargs="+", action="extend", metavar="NAME", help="only these (all that are built)")
    parser.add_argument("--only", nargs="+", action="extend", metavar="NAME", help="only these benchmarks")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N items of each benchmark")
    arguments = parser.parse_args(argv)
    if arguments.limit is not None and arguments.limit < 1:
        raise RecipeError(f"{arguments.limit} items measure nothing", where="--limit", hint="write 1 or more")
    recipe = read_recipe(arguments.recipe)
    work = [unit for one in choose(arguments.only) for unit in units(one, arguments.data, arguments.limit)]
    artifacts = _open(recipe, arguments.variant, arguments.build)
    directory = arguments.build / recipe.name / "benchmarks"
    directory.mkdir(exist_ok=True)

    from benchmarks.accuracy import harness  # after parsing, so that --help is instant

    harness.version()  # refused before anything is loaded
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        harness.isolate(Path(scratch))
        print(_measure(recipe, work, artifacts, directory, Path(scratch), arguments.limit))
    return PASSED


def _measure(  # noqa: PLR0913, PLR0917  # what, of whom, and the three places
    recipe: Recipe,
    work: Sequence[Unit],
    artifacts: Mapping[str, Artifact],
    directory: Path,
    scratch: Path,
    limit: int | None,
) -> Path:
    from benchmarks.accuracy import harness, report
    from benchmarks.accuracy.run import Scoring
    from benchmarks.environment import environment

    run = Scoring(artifacts, recipe.source.allow_pickle, directory / "accuracy", scratch)
    scored, seconds = run.all(work)
    place: dict[str, Any] = environment(len(os.sched_getaffinity(0)))
    place["packages"] |= {harness.DISTRIBUTION: harness.version()}
    return report.write(report.AccuracyOutcome(recipe.name, limit, scored, seconds, place), directory)


def _open(recipe: Recipe, chosen: Sequence[str] | None, build: Path) -> dict[str, Artifact]:
    """The source and the variants chosen, or those that are built, by name."""
    home = build / recipe.name
    known = recipe.files
    for name in chosen or ():
        if name not in known:
            raise RecipeError(f"unknown variant {name!r}", where="--variant", hint=did_you_mean(name, known))
    convert, quantize = (invocation(stage, recipe.path, build) for stage in ("convert", "quantize"))
    found = {"source": open_artifact(home / "source", made_by=convert)}
    for name in known:
        if name in chosen if chosen else (home / name / variants.model_file(name)).is_file():
            found[name] = open_artifact(home / name, made_by=convert if name == "fp32" else quantize)
    if len(found) == 1:
        say("no variant is built: only the reference is scored")
    return found


if __name__ == "__main__":
    raise SystemExit(command.run(main))
