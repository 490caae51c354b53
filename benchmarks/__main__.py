"""python -m benchmarks RECIPE [--build DIR] [--rounds N] [--text FILE] [--only NAME ...]: engines side by side."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from artifact import command, registry
from artifact.command import say
from artifact.errors import PASSED, ArtifactError, RecipeError
from artifact.recipe import read_recipe
from artifact.signature import Dimensions
from artifact.store import open_artifact
from artifact.typed import build, did_you_mean


def main(argv: Sequence[str] | None) -> int:
    """Run the benchmark; prints the path of bench.md."""
    parser = command.parser("benchmarks", "Measure engines side by side on what was built.")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="how often everything is measured (5)")
    parser.add_argument(
        "--only", nargs="+", action="extend", metavar="NAME", help="only these, such as ours llamacpp/Q8_0"
    )
    parser.add_argument("--text", type=Path, metavar="FILE", help="judge fidelity on this text, not the recipe's")
    arguments = parser.parse_args(argv)
    if arguments.rounds < 1:
        raise RecipeError(f"{arguments.rounds} rounds measure nothing", where="--rounds", hint="write 1 or more")
    recipe = read_recipe(arguments.recipe)
    if arguments.text is not None:
        recipe = replace(recipe, verify=replace(recipe.verify, text=str(arguments.text.resolve())))
    os.environ["HF_HUB_OFFLINE"] = "1"  # every file is here; a look-up would only wait

    from benchmarks import engine, plots, report  # after parsing, so that --help is instant
    from benchmarks.cost.summary import ratios
    from benchmarks.environment import environment
    from benchmarks.run import Benchmark
    from benchmarks.scenario import SCENARIOS, fitting

    home = arguments.build / recipe.name
    source = open_artifact(home / "source", made_by=f"python -m convert {recipe.path} --build {arguments.build}")
    dims = build(
        Dimensions, source.manifest.facts.get("dimensions"), where=f"{source.path}: facts", error=ArtifactError
    )
    site = engine.Site(home, source.digest, dims.layers, dims.hidden, dims.parameters)
    chosen = _choose(site, arguments.only)
    threads = len(os.sched_getaffinity(0))
    scenarios = fitting(SCENARIOS, dims.context)
    left_out = [scenario.name for scenario in SCENARIOS if scenario not in scenarios]
    if left_out:
        say(f"not measured, because the model's context is {dims.context}: {', '.join(left_out)}")
    site.directory.mkdir(exist_ok=True)
    results = Benchmark(recipe, site, scenarios, threads, arguments.rounds).run(chosen)
    about = {**environment(threads), "text": recipe.text_path.name}
    results = replace(results, environment=about, cost=ratios(site.directory))
    path = report.write(results, site.directory)
    plots.draw(results, site.directory)
    print(path)
    return PASSED


def _choose(site: object, only: Sequence[str] | None) -> list[tuple[str, str]]:
    """The (engine, configuration) pairs that `only` names, by engine or by both; all of them without it."""
    from benchmarks import engine

    known = [(name, one) for name in registry.names(engine.FOLDER) for one in engine.module(name).names(site)]
    known.sort(key=lambda pair: pair[0] != "ours")  # ours first, as the tables show them
    if only is None:
        return known
    keys = {name for name, _ in known} | {f"{name}/{one}" for name, one in known}
    for name in only:
        if name not in keys:
            raise RecipeError(f"unknown engine {name!r}", where="--only", hint=did_you_mean(name, keys))
    return [(name, one) for name, one in known if name in only or f"{name}/{one}" in only]


if __name__ == "__main__":
    raise SystemExit(command.run(main))
