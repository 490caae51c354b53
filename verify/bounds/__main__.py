"""python -m verify.bounds RECIPE [--build DIR] [--factor F]: tolerances from reports on several processors.

stdout carries the recipe's tables [tolerances], ready to be pasted: derived bounds, and of what is measured the worst.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline import command
from pipeline.artifact.store import open_artifact
from pipeline.canonical import read_json
from pipeline.command import invocation, say
from pipeline.errors import PASSED, InputError, RecipeError
from pipeline.recipe.recipe import read_recipe

FACTOR = 1.5


def main(argv: Sequence[str] | None) -> int:
    """Read what `verify` and `verify --processor SET` have left in the build directory, and print."""
    parser = command.parser("verify.bounds", "Print the recipe's tolerances from reports on several processors.")
    parser.add_argument(
        "--factor", type=float, default=FACTOR, metavar="F", help=f"bounds are F times what is measured ({FACTOR:g})"
    )
    arguments = parser.parse_args(argv)
    recipe = read_recipe(arguments.recipe)
    if not 1 <= arguments.factor < math.inf:
        hint = "write 1, for the smallest that pass, or more"
        raise RecipeError(f"factor {arguments.factor} would fail what was measured", where="--factor", hint=hint)

    from verify.bounds.tables import tables  # after parsing, so that --help is instant

    home: Path = arguments.build / recipe.name
    own = invocation("verify", recipe.path, arguments.build)
    paths = [home / "report", *sorted(path for path in home.glob("report-*") if path.is_dir())]
    reports = [_report(path, own) for path in paths]
    for path, report in zip(paths, reports, strict=True):
        if report["candidates"] != reports[0]["candidates"]:
            hint = f"verify them again: {own}, and with --processor"
            raise InputError("it judged other files than the report of this machine", where=path, hint=hint)
        place = report["environment"]
        say(f"bounds: {place['instruction_sets'][0]} ({place['processor']}): {report['verdict']}")
    print(tables(reports, recipe, arguments.factor))
    return PASSED


def _report(path: Path, made_by: str) -> dict[str, Any]:
    open_artifact(path, made_by=made_by)
    report: dict[str, Any] = read_json(path / "report.json")
    return report


if __name__ == "__main__":
    raise SystemExit(command.run(main))
