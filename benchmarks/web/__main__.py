"""python -m benchmarks.web RECIPE [--build DIR] [--rounds N] [--threads N] [--wasm BUILD] [--only NAME ...]: wasm."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from pipeline import command
from pipeline.errors import PASSED, RecipeError
from pipeline.recipe.recipe import read_recipe

STOCK = ("fp32", "q8")  # what Transformers.js loads by default on WebGPU and on wasm


def main(argv: Sequence[str] | None) -> int:
    """Run the benchmark; prints the path of web.md."""
    parser = command.parser("benchmarks.web", "Measure what was built in onnxruntime-web's wasm, in Node.")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="how often everything is measured (3)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="of the wasm (1: a page not isolated)")
    parser.add_argument("--wasm", default="asyncify", metavar="BUILD", help="asyncify (Transformers.js's own) or plain")
    parser.add_argument("--only", nargs="+", action="extend", metavar="NAME", help="only these, such as ours stock/q8")
    arguments = parser.parse_args(argv)
    if arguments.rounds < 1:
        raise RecipeError(f"{arguments.rounds} rounds measure nothing", where="--rounds", hint="write 1 or more")
    recipe = read_recipe(arguments.recipe)
    os.environ["HF_HUB_OFFLINE"] = "1"  # every file is here; a look-up would only wait

    from benchmarks import engine  # after parsing, so that --help is instant
    from benchmarks.engines import ours
    from benchmarks.environment import environment
    from benchmarks.web import report
    from benchmarks.web.engine import Web
    from benchmarks.web.run import measure
    from verify.interop.runtime import Bounds

    bounds = Bounds(recipe.verify.runtimes.timeout_s, recipe.verify.runtimes.memory_gb)
    web = Web(arguments.wasm, arguments.threads, bounds)
    web.check()
    site = engine.open_site(recipe, arguments.build)
    known = [*(("ours", name) for name in ours.variants(site)), *(("stock", name) for name in STOCK)]
    results = measure(site, engine.choose(known, arguments.only), web, arguments.rounds)
    place = {**environment(arguments.threads), "engine": results.environment}
    print(report.write(replace(results, environment=place), site.directory))
    return PASSED


if __name__ == "__main__":
    raise SystemExit(command.run(main))
