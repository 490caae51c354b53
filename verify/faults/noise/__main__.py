"""python -m verify.faults.noise RECIPE [--build DIR] [--variant NAME ...] [--seeds N] [--factor F]: bounds of `twin`.

stdout carries the recipe's tables [tolerances.twin.*], ready to be pasted; `twin` need not be among its checks yet.
"""

from __future__ import annotations

import math
import os
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from pipeline import command
from pipeline.artifact import lineage
from pipeline.command import say
from pipeline.errors import CHECK_FAILED, PASSED, RecipeError
from pipeline.recipe.recipe import Recipe, read_recipe
from pipeline.typed import did_you_mean

SEEDS = 10  # roundings that rarely flip are missed by a few
FACTOR = 2.0


def main(argv: Sequence[str] | None) -> int:
    """Measure and print. Exit code 1 if a copy could not be judged, or is beyond a bound that the recipe has."""
    parser = command.parser(
        "verify.faults.noise", "Measure how far variants are from themselves, for the bounds of twin."
    )
    parser.add_argument("--variant", nargs="+", action="extend", metavar="NAME", help="only these (all that are built)")
    parser.add_argument("--seeds", type=int, default=SEEDS, metavar="N", help=f"copies of each variant ({SEEDS})")
    parser.add_argument(
        "--factor", type=float, default=FACTOR, metavar="F", help=f"bounds are F times what is measured ({FACTOR:g})"
    )
    arguments = parser.parse_args(argv)
    recipe = read_recipe(arguments.recipe)
    known = recipe.files
    for variant in arguments.variant or ():
        if variant not in known:
            raise RecipeError(f"unknown variant {variant!r}", where="--variant", hint=did_you_mean(variant, known))
    if arguments.seeds < 1:
        raise RecipeError(f"{arguments.seeds} seeds are not possible", where="--seeds", hint="write 1 or more")
    if not 1 <= arguments.factor < math.inf:
        hint = "write 1, for the smallest that pass, or more"
        raise RecipeError(f"factor {arguments.factor} would fail what was measured", where="--factor", hint=hint)
    os.environ["HF_HUB_OFFLINE"] = "1"
    return _run(recipe, arguments)


def _run(recipe: Recipe, arguments: Namespace) -> int:
    home: Path = arguments.build / recipe.name
    origin, artifacts = lineage.open_built(recipe, arguments.variant, home)

    from verify import run_checks, verdict  # after parsing, so that --help is instant
    from verify.faults.bench import TWIN, Bench, Ground
    from verify.faults.noise import bounds
    from verify.reference.corpus import Corpus
    from verify.reference.model import Reference
    from verify.sandbox.pool import Pool

    modules = run_checks.plan(recipe, [TWIN])
    settings = run_checks.settings_of(recipe, modules)
    verdict.require_tolerances(recipe, modules, [*artifacts], measuring=True)
    say("noise: loading the reference")
    reference = Reference(origin.path, allow_pickle=recipe.source.allow_pickle, context=recipe.verify.context)
    settings[TWIN].check(f"{recipe.path}: verify.{TWIN}", reference.context)
    corpus = Corpus(recipe.text_path, reference.tokenizer, recipe.verify.seed)
    examination = run_checks.Examination(recipe, reference, corpus, modules, settings)
    with tempfile.TemporaryDirectory(dir=home, prefix=".noise-") as scratch, Pool(recipe.verify) as pool:
        cases = examination.prepare(Path(scratch))
        bench = Bench(recipe, examination, cases, Ground.of(home, reference, ()), Path(scratch))
        results = bounds.measure(bench, pool, [*artifacts], arguments.seeds)
    broken = {result.variant: result.failure or result.not_run for result in results if not result.measures}
    for variant, reason in broken.items():
        say(f"{variant}: NOT MEASURED: {reason}")
    measured = [result for result in results if result.variant not in broken]
    print(bounds.tables(measured, recipe, arguments.factor))
    beyond = any(not m.passed and m.bound is not None for result in measured for m in result.measures)
    return CHECK_FAILED if broken or beyond else PASSED


if __name__ == "__main__":
    raise SystemExit(command.run(main))
