"""`python -m quantize RECIPE [--variant NAME ...] [--build DIR]`: fp32 artifact in, one artifact per variant out."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.command import parser, run
from pipeline.errors import PASSED, RecipeError
from pipeline.recipe.recipe import Recipe, read_recipe
from pipeline.typed import did_you_mean


def main(argv: Sequence[str] | None = None) -> int:
    """Make the variants and print the path of each artifact on stdout."""
    frame = parser("quantize", "Make a recipe's variants from its fp32 artifact. Prints one artifact path a line.")
    frame.add_argument(
        "--variant", nargs="+", action="extend", metavar="NAME", help="only these variants (all in the recipe)"
    )
    arguments = frame.parse_args(argv)
    recipe = read_recipe(arguments.recipe)
    names = choose(recipe, arguments.variant)
    # numpy and onnx_ir load only now, so that --help and a misspelt recipe answer at once.
    from quantize.stage import make_variants

    for path in make_variants(recipe, names, arguments.build):
        print(path, flush=True)
    return PASSED


def choose(recipe: Recipe, named: Sequence[str] | None) -> tuple[str, ...]:
    """The variants to make, in the recipe's order; RecipeError when one that was named is not in the recipe."""
    for name in named or ():
        if name not in recipe.variants and name != "fp32":  # convert's, so that one VARIANT list serves every stage
            where = f"{recipe.path}: variants"
            raise RecipeError(f"no variant {name!r}", where=where, hint=did_you_mean(name, recipe.variants))
    return tuple(name for name in recipe.variants if not named or name in named)


if __name__ == "__main__":
    raise SystemExit(run(main))
