"""Find how far a variant is from copies with moved last bits, or itself at another level: what `twin` must allow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from tqdm import tqdm

from pipeline.recipe.recipe import Recipe
from pipeline.recipe.tolerances import Tolerance
from verify import verdict
from verify.bounds.tables import tolerances
from verify.check import Measure
from verify.checks import twin
from verify.faults.bench import TWIN, Bench
from verify.report.headroom import headroom
from verify.run_checks import Target, interval
from verify.sandbox.pool import Pool
from verify.sandbox.worker import Worker
from verify.verdict import Result

MEASURED = (
    "The built variant with every scale (without scales: every float32 weight) moved by its last bit at random, or run"
    " at another level, is as far as another processor's rounding may take it"
)
ABOUT = {
    "logits_max_abs": "where activations are rounded to int8, a flipped rounding flips others",
    "modules_error": "one rounding of float32, or of a float16 scale",
    "float_max_abs": "without roundings of activations; 0 where there are none, for then nothing is compared",
}


def measure(bench: Bench, pool: Pool, variants: Sequence[str], seeds: int) -> list[Result]:
    """Let `twin` judge copies of every variant, and the variant at every other level beside itself at the first.

    No bound needs to be known. A copy that could not be judged gives a result without measures.
    """
    first, *others = bench.recipe.verify.levels
    own = replace(bench.recipe, verify=replace(bench.recipe.verify, levels=tuple(others)))
    across = replace(bench.examination, recipe=own)

    def one(worker: Worker, job: tuple[str, int | None]) -> list[Result]:
        variant, seed = job
        if seed is not None:
            return bench.judge_moved(worker, variant, seed)
        clean = bench.ground.clean(variant)
        return across.judge(worker, Target(variant, clean, clean, twin_level=first), bench.of(TWIN))

    jobs = [(variant, seed) for variant in variants for seed in (*range(seeds), None)]
    told = tqdm(pool.map(one, jobs), total=len(jobs), desc="noise", unit=" copies", mininterval=interval())
    return [result for results in told for result in results]


def tables(results: Sequence[Result], recipe: Recipe, factor: float) -> str:
    """The recipe's tables [tolerances.twin.*] as TOML, with bounds of `factor` times the largest measured.

    Figures that the recipe has no tolerance for get a reason that says this.
    """
    known = recipe.tolerances.get(TWIN, {})
    figures = {name: known.get(name) or Tolerance(_reason(name, factor), {}) for name in twin.TOLERATED}
    bare = replace(recipe, tolerances={TWIN: figures})
    return tolerances(headroom([*results, *_absent(results, bare)]), bare, factor)


def _absent(results: Sequence[Result], recipe: Recipe) -> Iterator[Result]:
    """Figures that a variant lacks, as 0, for a recipe bounds all: what rounds nothing has no run without roundings."""
    for variant in dict.fromkeys(result.variant for result in results):
        found = {m.measure.name for result in results if result.variant == variant for m in result.measures}
        none = [Measure(name, 0.0, 1) for name in twin.TOLERATED if name not in found]
        judged = tuple(verdict.judge(recipe, TWIN, variant, measure) for measure in none)
        yield Result(variant, TWIN, "any", judged)


def _reason(figure: str, factor: float) -> str:
    about = f" ({ABOUT[figure]})" if figure in ABOUT else ""
    return f"{MEASURED}{about}: {factor:g} times measured."
