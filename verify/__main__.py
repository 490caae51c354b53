"""python -m verify RECIPE [--variant NAME ...] [--candidate FILE.onnx] [--source DIR] [--build DIR]: the verdict."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from artifact import command, signature
from artifact.errors import CHECK_FAILED, PASSED, RecipeError
from artifact.recipe import Recipe, read_recipe
from artifact.typed import did_you_mean


def main(argv: Sequence[str] | None) -> int:
    """Run the stage; prints the report's directory. Exit code 0 only if every check of every candidate passed."""
    parser = command.parser("verify", "Judge ONNX files against the PyTorch reference.")
    names = ", ".join(signature.FILES)
    parser.add_argument("--variant", nargs="+", action="extend", metavar="NAME", help=f"judge only these; of {names}")
    parser.add_argument(
        "--candidate", type=Path, metavar="FILE.onnx", help="judge this file, by --variant's tolerances"
    )
    parser.add_argument("--source", type=Path, metavar="DIR", help="checkpoint to judge the candidate against")
    parser.add_argument("--explain", action="store_true", help="find the node at fault in each variant that fails")
    arguments = parser.parse_args(argv)
    recipe = read_recipe(arguments.recipe)
    _check_arguments(recipe, arguments)
    os.environ["HF_HUB_OFFLINE"] = "1"  # the judge looks nothing up

    from verify import stage  # after parsing, so that --help is instant
    from verify.terminal import show

    home = arguments.build / recipe.name
    if arguments.candidate is not None:
        report, directory = stage.candidate(
            recipe, arguments.candidate, arguments.variant[0], arguments.source, home, explain=arguments.explain
        )
    else:
        report, directory = stage.built(recipe, arguments.variant, home, explain=arguments.explain)
    show(report)
    if arguments.explain and report["verdict"] != "passed":
        from verify.explain.terminal import show_stored

        show_stored(directory)
    print(directory)
    return PASSED if report["verdict"] == "passed" else CHECK_FAILED


def _check_arguments(recipe: Recipe, arguments: Namespace) -> None:
    known = ["fp32", *recipe.variants]
    for variant in arguments.variant or ():
        if variant not in known:
            raise RecipeError(f"unknown variant {variant!r}", where="--variant", hint=did_you_mean(variant, known))
    if arguments.candidate is not None and len(arguments.variant or ()) != 1:
        hint = f"add --variant NAME; known: {', '.join(known)}"
        raise RecipeError("a candidate is judged by one variant's tolerances", where="--candidate", hint=hint)
    if arguments.candidate is None and arguments.source is not None:
        hint = "built variants are judged against build/<name>/source; use --source with --candidate, or with convert"
        raise RecipeError("--source without --candidate", where="--source", hint=hint)


if __name__ == "__main__":
    raise SystemExit(command.run(main))
