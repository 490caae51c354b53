"""python -m reconvert RECIPE ... [--push | --pr] [--executor NAME] [--build DIR]: one cycle of a job nobody watches."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from pipeline import command, plugins
from pipeline.command import say
from pipeline.errors import CHECK_FAILED, PASSED, BusyError, RecipeError
from pipeline.recipe.recipe import Recipe, read_recipe

if TYPE_CHECKING:
    from reconvert.cycle import Row

OWN = ".reconvert"  # below the build directory; no recipe's name begins with a dot
EXECUTORS = "reconvert/executors"
KEEP_BYTES = 20 * 10**9


def main(argv: Sequence[str] | None) -> int:
    """Run one cycle; prints the path of its summary. Exit code 0 only if no recipe failed or is quarantined."""
    arguments = parser().parse_args(argv)
    recipes = [read_recipe(path) for path in arguments.recipes]
    for name, times in Counter(recipe.name for recipe in recipes).items():
        if times > 1:
            raise RecipeError(f"{times} recipes are named {name!r}", where="RECIPE", hint="give each its own name")
    if arguments.way is not None:
        _require_places(recipes)
    for flag in ("attempts", "tries"):
        if getattr(arguments, flag) < 1:
            raise RecipeError(f"{getattr(arguments, flag)} is not possible", where=f"--{flag}", hint="write 1 or more")
    for flag, value in (("wait", arguments.wait), ("keep-bytes", arguments.keep_bytes)):
        if not value >= 0:  # NaN is refused too
            raise RecipeError(f"{value} is not possible", where=f"--{flag}", hint="write 0 or more")
    plugins.require(EXECUTORS, arguments.executor, where="--executor")

    from reconvert.cycle import Row  # after parsing, so that --help is instant
    from reconvert.summary import show

    own = arguments.build / OWN
    own.mkdir(parents=True, exist_ok=True)
    try:
        # Never a lock that is a mere file: it would outlive a machine that goes down, and stop every run after it.
        with FileLock(own / "lock", timeout=0, fallback_to_soft=False):
            return _run(recipes, arguments, own / "summary.json")
    except Timeout as error:
        show([Row(recipe.name, "busy", "another run is at work in this build directory") for recipe in recipes])
        hint = "let it end, or name another build directory with --build"
        raise BusyError("another run is at work in this build directory", where=own / "lock", hint=hint) from error


def _require_places(recipes: Sequence[Recipe]) -> None:
    """RecipeError, before hours of work, for a recipe that names no repository, or one that another publishes in."""
    taken: dict[str, Recipe] = {}
    for recipe in recipes:
        if recipe.publish is None:
            hint = 'add [publish] with repository = "OWNER/NAME", or leave --push and --pr away'
            raise RecipeError("the recipe does not say where to publish", where=recipe.path, hint=hint)
        name = recipe.publish.repository.casefold()  # as the Hub compares them
        for known, other in taken.items():
            mine = name if "/" in known else name.rpartition("/")[2]
            if mine == (known if "/" in name else known.rpartition("/")[2]):
                hint = "they would replace each other's files: give each its own; write OWNER/NAME if owners differ"
                what = f"{recipe.publish.repository} is where {other.path} publishes too"
                raise RecipeError(what, where=recipe.path, hint=hint)
        taken[name] = recipe


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog="python -m reconvert", description="Convert, verify and publish every recipe whose source has changed."
    )
    result.add_argument("recipes", type=Path, nargs="+", metavar="RECIPE", help="recipe files")
    result.add_argument("--build", type=Path, default=Path("build"), metavar="DIR", help="build directory (build)")
    ways = result.add_mutually_exclusive_group()
    ways.add_argument("--push", dest="way", action="store_const", const="push", help="publish what was verified")
    ways.add_argument("--pr", dest="way", action="store_const", const="pr", help="propose it as a pull request")
    known = ", ".join(plugins.names(EXECUTORS))
    result.add_argument("--executor", default="local", metavar="NAME", help=f"where the stages run: {known} (local)")
    result.add_argument("--address", metavar="HOST:PORT", help="the cluster that --executor ray runs on")
    result.add_argument("--attempts", type=int, default=3, metavar="N", help="failures that quarantine a key (3)")
    result.add_argument("--release", action="store_true", help="try quarantined keys once more")
    result.add_argument("--tries", type=int, default=5, metavar="N", help="tries when the network fails (5)")
    result.add_argument("--wait", type=float, default=10.0, metavar="S", help="seconds after the first of them (10)")
    what = "bytes that older artifacts and logs may take"
    result.add_argument("--keep-bytes", type=int, default=KEEP_BYTES, metavar="N", help=f"{what} ({KEEP_BYTES:,})")
    return result


def _run(recipes: Sequence[Recipe], arguments: argparse.Namespace, path: Path) -> int:
    from reconvert.execution import SECRETS
    from reconvert.pruning import prune
    from reconvert.state import write_whole
    from reconvert.summary import document, show

    everything = dict(os.environ)
    for name in SECRETS:  # not even this process's own look-ups use them
        os.environ.pop(name, None)
    rows, time = asyncio.run(_cycle(recipes, arguments, everything))
    try:
        for removed in prune(arguments.build, arguments.keep_bytes, time):
            say(f"pruned: {removed}")
    finally:  # what became of the recipes is told, whatever lies in the way of tidying up
        write_whole(path, document(rows, time))
        show(rows)
    print(path)
    return PASSED if all(row.good for row in rows) else CHECK_FAILED


async def _cycle(
    recipes: Sequence[Recipe], arguments: argparse.Namespace, everything: Mapping[str, str]
) -> tuple[list[Row], str]:
    """The rows, and the time that the run's logs are named by. `everything` is the environment with its secrets."""
    from reconvert.cycle import Job, cycle
    from reconvert.executors.local import Local
    from reconvert.retry import Patience
    from reconvert.task import Opener, Options

    try:
        opener: Opener = importlib.import_module(f"reconvert.executors.{arguments.executor}").open_executor
    except ModuleNotFoundError as error:
        if error.name != arguments.executor:  # an executor is named after the library that it stands for
            raise
        hint = "run: make setup EXTRAS=fleet, or leave --executor out"
        raise RecipeError(f"{error.name} is not installed", where="--executor", hint=hint) from error
    async with opener(Options(arguments.address)) as executor:
        job = Job(
            arguments.build,
            executor,
            publisher=Local(everything),
            way=arguments.way,
            attempts=arguments.attempts,
            release=arguments.release,
            patience=Patience(tries=arguments.tries, first=arguments.wait),
        )
        return await cycle(recipes, job), job.time


if __name__ == "__main__":
    raise SystemExit(command.run(main))
