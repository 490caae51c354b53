"""python -m verify RECIPE [--variant NAME ...] [--candidate FILE.onnx] [--prompts FILE] [--build DIR]: the verdict.

python -m verify --candidate FILE.onnx --source DIR: the verdict on a file that no recipe was written for.

stdout carries the report's directory, or what is asked for in its place: a form of the report, or tolerances.
"""

from __future__ import annotations

import math
import os
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from pipeline import command, variants
from pipeline.errors import CHECK_FAILED, PASSED, RecipeError
from pipeline.recipe.recipe import Recipe, read_recipe
from pipeline.typed import did_you_mean
from verify.report import FILES


def main(argv: Sequence[str] | None) -> int:
    """Run the stage; prints the report's directory. Exit code 0 only if every check of every candidate passed."""
    arguments = _parser().parse_args(argv)
    _check_combination(arguments)
    given = None if arguments.recipe is None else read_recipe(arguments.recipe)
    if given is not None:
        _check_variants(given, arguments)
    os.environ["HF_HUB_OFFLINE"] = "1"  # the judge looks nothing up

    from verify import stage  # after parsing, so that --help is instant
    from verify.bounds.tables import tables
    from verify.emulation.emulator import present
    from verify.explain.terminal import show_stored
    from verify.reference import prompts
    from verify.report.terminal import show
    from verify.run import Manner
    from verify.run_checks import Target

    if arguments.candidate is not None:
        stage.inspect(arguments.candidate, "--candidate")
    recipe = given or _assumed(arguments)
    home = arguments.build / recipe.name
    emulator = None if arguments.processor is None else present(arguments.processor)
    manner = Manner(
        measuring=arguments.tolerances is not None,
        runtimes=not arguments.no_runtimes and emulator is None,
        explain=arguments.explain,
        emulator=emulator,
        prompts=None if arguments.prompts is None else prompts.read(arguments.prompts),
        assumed=given is None,
    )
    if arguments.candidate is not None:
        target = Target(arguments.variant[0], arguments.candidate)
        if arguments.reference is not None:
            held = stage.against_graph(arguments.reference, arguments.source, target.path)
        else:
            held = stage.against_checkpoint(recipe, arguments.source, home)
        report, directory = stage.candidate(recipe, target, held, home, manner)
    else:
        report, directory = stage.built(recipe, arguments.variant, home, manner)
    show(report)
    if report["explanations"]:
        show_stored(directory)
    if arguments.tolerances is not None:
        print(tables([report], recipe, arguments.tolerances))
    elif arguments.format is not None:
        print((directory / FILES[arguments.format]).read_text(encoding="utf-8"), end="")
    else:
        print(directory)
    return PASSED if report["verdict"] == "passed" else CHECK_FAILED


def _parser() -> ArgumentParser:
    parser = command.parser(
        "verify",
        "Judge ONNX files against the PyTorch reference.",
        recipe="with --candidate and --source it may be left out, and one is assumed",
    )
    names = ", ".join(variants.FILES)
    parser.add_argument("--variant", nargs="+", action="extend", metavar="NAME", help=f"judge only these; of {names}")
    parser.add_argument(
        "--candidate", type=Path, metavar="FILE.onnx", help="judge this file, by --variant's tolerances"
    )
    parser.add_argument("--source", type=Path, metavar="DIR", help="checkpoint to judge the candidate against")
    parser.add_argument(
        "--reference",
        type=Path,
        metavar="OTHER.onnx",
        help="judge the candidate against this file, not against PyTorch; --source holds its config and tokenizer",
    )
    parser.add_argument(
        "--prompts",
        type=Path,
        metavar="FILE",
        help="judge on your own prompts too: a line each (.txt), or JSON lines with prompt or messages (.jsonl)",
    )
    printed = parser.add_mutually_exclusive_group()
    printed.add_argument("--format", choices=list(FILES), help="print the report in this form, not its directory")
    printed.add_argument(
        "--tolerances",
        nargs="?",
        type=float,
        const=1.0,
        metavar="FACTOR",
        help="print the recipe's [tolerances] set to FACTOR (1) times what was measured; 1 is the least that passes",
    )
    parser.add_argument("--no-runtimes", action="store_true", help="leave out verify.runtimes: an incomplete report")
    parser.add_argument(
        "--processor",
        metavar="SET",
        help="run the candidates on an emulated processor whose best instruction set this is, such as AVX2 or SSE4.2",
    )
    parser.add_argument("--explain", action="store_true", help="find the node at fault in each variant that fails")
    return parser


def _assumed(arguments: Namespace) -> Recipe:
    """A recipe for a file that has none, which is judged by the tolerances that suit it, if no variant is named."""
    from verify import assumed

    recipe = assumed.recipe_for(arguments.source, arguments.build)
    arguments.variant = arguments.variant or [assumed.variant(arguments.candidate)]
    _check_variants(recipe, arguments)
    return recipe


def _check_variants(recipe: Recipe, arguments: Namespace) -> None:
    known = recipe.files
    for variant in arguments.variant or ():
        if variant not in known:
            raise RecipeError(f"unknown variant {variant!r}", where="--variant", hint=did_you_mean(variant, known))
    if arguments.candidate is not None and len(arguments.variant or ()) != 1:
        hint = f"add --variant NAME; known: {', '.join(known)}"
        raise RecipeError("a candidate is judged by one variant's tolerances", where="--candidate", hint=hint)


def _check_combination(arguments: Namespace) -> None:
    """Refuse options that do not go together."""
    if arguments.recipe is None and (arguments.candidate is None or arguments.source is None):
        hint = "name a recipe; or a file and the checkpoint that it was made of: --candidate FILE.onnx --source DIR"
        raise RecipeError("no recipe is named", where="RECIPE", hint=hint)
    if arguments.recipe is None and arguments.reference is not None:
        hint = "name a recipe too: bounds are derived from what PyTorch computes, which is not asked here"
        raise RecipeError("--reference without a recipe", where="--reference", hint=hint)
    if arguments.tolerances is not None and not 1 <= arguments.tolerances < math.inf:
        hint = "write --tolerances, for the smallest that pass, or --tolerances 1.5"
        raise RecipeError(
            f"factor {arguments.tolerances} would fail what was measured", where="--tolerances", hint=hint
        )
    if arguments.processor is not None and arguments.explain:
        hint = "leave one of them out: an explanation runs graphs on this machine's own processor"
        raise RecipeError("--explain with --processor", where="--explain", hint=hint)
    if arguments.reference is not None and arguments.candidate is None:
        hint = "name the file to judge with --candidate; built variants are judged against PyTorch"
        raise RecipeError("--reference without --candidate", where="--reference", hint=hint)
    if arguments.reference is not None and arguments.explain:
        hint = "leave one of them out: an explanation compares with values inside the PyTorch model"
        raise RecipeError("--explain with --reference", where="--explain", hint=hint)
    if arguments.candidate is None and arguments.source is not None:
        hint = "built variants are judged against build/<name>/source; use --source with --candidate, or with convert"
        raise RecipeError("--source without --candidate", where="--source", hint=hint)


if __name__ == "__main__":
    raise SystemExit(command.run(main))
