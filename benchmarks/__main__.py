"""python -m benchmarks RECIPE [--build DIR] [--rounds N] [--text FILE] [--only NAME ...]: engines side by side."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import command, plugins
from pipeline.canonical import file_digest
from pipeline.command import say
from pipeline.errors import PASSED, InputError, RecipeError
from pipeline.plugins import code_of
from pipeline.recipe.recipe import Recipe, read_recipe

if TYPE_CHECKING:
    from benchmarks.engine import Site


def main(argv: Sequence[str] | None) -> int:
    """Run the benchmark; prints the path of bench.md."""
    parser = command.parser("benchmarks", "Measure engines side by side on what was built.")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="how often everything is measured (5)")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="one prompt's pass and one decoding; fidelity only where it is known",
    )
    parser.add_argument(
        "--only", nargs="+", action="extend", metavar="NAME", help="only these, such as ours llamacpp/Q8_0"
    )
    parser.add_argument("--text", type=Path, metavar="FILE", help="judge fidelity on this text, not the recipe's")
    parser.add_argument("--processor", choices=("AVX2",), help="measure as on a processor without AVX-512")
    arguments = parser.parse_args(argv)
    if arguments.rounds < 1:
        raise RecipeError(f"{arguments.rounds} rounds measure nothing", where="--rounds", hint="write 1 or more")
    recipe = _with_text(read_recipe(arguments.recipe), arguments.text)
    os.environ["HF_HUB_OFFLINE"] = "1"  # every file is here; a look-up would only wait

    from benchmarks import engine, plots, report  # after parsing, so that --help is instant
    from benchmarks.avx2 import SETS, without_avx512
    from benchmarks.environment import environment
    from benchmarks.kept import Kept
    from benchmarks.run import Sitting
    from benchmarks.scenario import QUICK, SCENARIOS, fitting

    site = engine.open_site(recipe, arguments.build)
    known = [(name, one) for name in plugins.names(engine.FOLDER) for one in engine.load(name).names(site)]
    known.sort(key=lambda pair: pair[0] != "ours")  # ours first, as the tables show them
    chosen = engine.choose(known, arguments.only)
    threads = len(os.sched_getaffinity(0))
    asked = [scenario for scenario in SCENARIOS if scenario.name in QUICK or not arguments.quick]
    scenarios = fitting(asked, site.dims.context)
    left_out = [scenario.name for scenario in asked if scenario not in scenarios]
    if left_out:
        say(f"not measured, because the model's context is {site.dims.context}: {', '.join(left_out)}")
    if not scenarios:
        hint = "measure a model with a longer context, or the passes alone: python -m benchmarks.operators FILE.onnx"
        raise InputError(f"a context of {site.dims.context} is too short", where=site.source, hint=hint)
    python = without_avx512(arguments.build) if arguments.processor else None
    about = {**environment(threads), "text": recipe.text_path.name}
    if arguments.processor:
        about |= {"processor": f"{about['processor']}, restricted to {arguments.processor}", "instruction_sets": SETS}
    kept = Kept(site.directory, _decides(recipe, site, about))
    sitting = Sitting(recipe, site, scenarios, threads, arguments.rounds, kept, not arguments.quick, python)
    results = sitting.run(chosen)
    results = replace(results, environment=about)
    target = site.directory / (arguments.processor or "").lower()
    target.mkdir(exist_ok=True)
    path = report.write(results, target)
    plots.draw(results, target)
    print(path)
    return PASSED


def _with_text(recipe: Recipe, text: Path | None) -> Recipe:
    """The recipe, with the text that fidelity is judged on; RecipeError."""
    if text is not None:
        if not text.is_file():
            raise RecipeError("not a file", where=f"--text {text}", hint="name a UTF-8 text file")
        recipe = replace(recipe, verify=replace(recipe.verify, text=str(text.resolve())))
    if not recipe.text_path.is_file():
        hint = "set verify.text to a UTF-8 text file, relative to the recipe"
        raise RecipeError("not a file", where=recipe.text_path, hint=hint)
    return recipe


def _decides(recipe: Recipe, site: Site, about: Mapping[str, Any]) -> dict[str, Any]:
    """Return what decides every configuration's fidelity, by the names that it is kept under."""
    settings = dict(recipe.verify.settings.get("divergence", {}))
    text = {"text": file_digest(recipe.text_path), "seed": recipe.verify.seed, "divergence": settings}
    here = {key: about[key] for key in ("packages", "instruction_sets", "threads")}
    return {**text, **here, "source": site.digest, "code": code_of("verify")}


if __name__ == "__main__":
    raise SystemExit(command.run(main))
