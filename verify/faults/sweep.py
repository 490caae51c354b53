"""Every fault in every variant, and the clean variants on other pieces of the text; several processes at a time."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from tqdm import tqdm

from verify import run_checks
from verify.check import load
from verify.faults import asking
from verify.faults.bench import TWIN, Bench, failures
from verify.faults.fault import EVERY, FILES, Fault, InapplicableError
from verify.reference.corpus import Corpus
from verify.run_checks import Examination, Saved, Target, interval
from verify.sandbox.pool import Pool
from verify.sandbox.worker import Worker
from verify.verdict import Result

STEPS = 20  # halvings of a fault's magnitude among which the smallest one that is still caught is searched
MOVED = (1000, 1001)  # seeds of the copies with moved last bits: none that the bounds were measured with
Job = tuple[Fault, str, str | None]  # a fault, a variant, and the runtime that is asked, if it is not the checks


@dataclass(frozen=True)
class Finding:
    """State what became of one fault in one variant. Magnitudes: None for a fault that has none, or is not caught."""

    fault: str
    variant: str
    caught_by: dict[str, str] = field(default_factory=dict)
    smallest: float | None = None
    smallest_without_twin: float | None = None
    not_applicable: str | None = None
    runtime: str | None = None  # that was asked, where it was not the checks

    @property
    def missed(self) -> bool:
        """Return whether it was planted and no check failed."""
        return not self.caught_by and self.not_applicable is None


def sweep(bench: Bench, pool: Pool, faults: Iterable[Fault], variants: Sequence[str]) -> list[Finding]:
    """Plant and judge every fault in every variant that it concerns."""
    jobs = list(_jobs(bench, faults, variants))

    def one(worker: Worker, job: Job) -> Finding:
        entry, variant, runtime = job
        place = Path(tempfile.mkdtemp(dir=bench.scratch))
        try:
            if runtime is None:
                return _examine(bench, worker, entry, variant, place)
            path = bench.ground.plant(entry, variant, None, place / "planted")
            return Finding(entry.name, variant, failures(bench.ask(runtime, variant, path)), runtime=runtime)
        except InapplicableError as reason:
            return Finding(entry.name, variant, not_applicable=str(reason), runtime=runtime)
        finally:
            shutil.rmtree(place, ignore_errors=True)

    return list(tqdm(pool.map(one, jobs), total=len(jobs), desc="faults", unit=" faults", mininterval=interval()))


def _jobs(bench: Bench, faults: Iterable[Fault], variants: Sequence[str]) -> Iterator[Job]:
    """Yield what is planted where, and who must catch it: the checks (None) and runtimes."""
    for entry in faults:
        if entry.runtime in (None, EVERY):
            yield from ((entry, variant, None) for variant in variants if variant in entry.variants)
        if bench.asking is not None:
            chosen = [variant for variant in variants if variant in asking.asked_in(entry)]
            yield from product([entry], chosen, asking.of(entry, bench.recipe))


def _examine(bench: Bench, worker: Worker, entry: Fault, variant: str, place: Path) -> Finding:
    def caught(magnitude: float, checks: Sequence[str]) -> dict[str, str]:
        with contextlib.suppress(InapplicableError):  # so small that it is rounded away
            path = bench.ground.plant(entry, variant, magnitude, place / "planted")
            return bench.judge(worker, entry, variant, path, checks)
        return {}

    # Only what has changed is judged: the files beside the graph, or the graph.
    judging = [name for name in bench.examination.modules if (load(name).JUDGES == "files") is (entry.place == FILES)]
    path = bench.ground.plant(entry, variant, None, place / "planted")
    found = bench.judge(worker, entry, variant, path, judging)
    default = entry.magnitude
    if default is None or not found or not bench.halving:
        return Finding(entry.name, variant, found)
    smaller: dict[int, dict[str, str]] = {0: found}

    def smallest(checks: set[str]) -> float | None:
        """The default magnitude halved as often as one of these checks still fails."""
        good, bad = 0, STEPS
        if not checks & found.keys():
            return None
        while bad - good > 1:
            middle = (good + bad) // 2
            if middle not in smaller:  # only checks that caught the next larger one are asked
                left = smaller[max(step for step in smaller if step < middle)]
                smaller[middle] = caught(default / float(2**middle), with_needs(bench, left))
            good, bad = (middle, bad) if checks & smaller[middle].keys() else (good, middle)
        return default / float(2**good)

    return Finding(entry.name, variant, found, smallest(set(found)), smallest(set(found) - {TWIN}))


def with_needs(bench: Bench, checks: Iterable[str]) -> list[str]:
    """The checks, and those whose measures they use."""
    modules = bench.examination.modules
    return list(dict.fromkeys([name for check in checks for name in (*modules[check].NEEDS, check)]))


@dataclass(frozen=True)
class Clean:
    """One clean variant on one seed's pieces of the text: checks that failed, and all measures by check and name.

    `shorter` is the work that faults are judged by, which the clean ones must pass too. `moved`: it is a copy, its last
    bits moved under this seed, and judged by `twin` alone.
    """

    variant: str
    seed: int
    shorter: bool
    failed: dict[str, str]
    measures: dict[str, float]
    moved: bool = False
    runtime: str | None = None  # that was asked, where it was not the checks


def clean(bench: Bench, pool: Pool, variants: Sequence[str], seeds: int) -> list[Clean]:
    """Judge the variants as they were made, by every check at the recipe's seed, by some at others."""
    results = [
        Clean(target.variant, bench.recipe.verify.seed, shorter=True, failed=failures(found), measures=_measures(found))
        for target, found in _judge(bench.examination, bench.cases, pool, _targets(bench, variants))
    ]
    recipe, reference = bench.recipe, bench.examination.reference
    if TWIN in recipe.verify.checks:
        results += _moved(bench, pool, variants)
    results += _asked(bench, pool, variants)
    names = [name for name in recipe.verify.checks if name != TWIN]
    for seed in tqdm(
        range(recipe.verify.seed, recipe.verify.seed + seeds), desc="clean", unit=" seeds", mininterval=interval()
    ):
        first = seed == recipe.verify.seed
        modules = run_checks.plan(recipe, names if first else [name for name in names if load(name).SEEDED])
        own = replace(recipe, verify=replace(recipe.verify, seed=seed))
        corpus = Corpus(recipe.text_path, reference.tokenizer, seed)
        examination = Examination(own, reference, corpus, modules, run_checks.settings_of(own, modules))
        with tempfile.TemporaryDirectory(dir=bench.scratch) as scratch:
            cases = examination.prepare(Path(scratch))
            results += [
                Clean(target.variant, seed, shorter=False, failed=failures(found), measures=_measures(found))
                for target, found in _judge(examination, cases, pool, _targets(bench, variants))
            ]
    return results


def _moved(bench: Bench, pool: Pool, variants: Sequence[str]) -> list[Clean]:
    """Copies with their last bits moved, beside what they are copies of."""
    jobs = [(variant, seed) for variant in variants for seed in MOVED]

    def one(worker: Worker, job: tuple[str, int]) -> Clean:
        found = bench.judge_moved(worker, *job)
        return Clean(*job, shorter=False, failed=failures(found), measures=_measures(found), moved=True)

    return list(tqdm(pool.map(one, jobs), total=len(jobs), desc="last bits", unit=" copies", mininterval=interval()))


def _asked(bench: Bench, pool: Pool, variants: Sequence[str]) -> list[Clean]:
    """The variants as they were made, by every runtime that is asked about faults."""
    runtimes = {} if bench.asking is None else bench.asking.runtimes
    targets = _targets(bench, variants)
    jobs = [(target.variant, name) for name, runtime in runtimes.items() for target in runtime.asked(targets)]

    def one(_: Worker, job: tuple[str, str]) -> Clean:
        variant, runtime = job
        found = bench.ask(runtime, variant, bench.ground.clean(variant))
        seed = bench.recipe.verify.seed
        return Clean(variant, seed, shorter=True, failed=failures(found), measures=_measures(found), runtime=runtime)

    return list(tqdm(pool.map(one, jobs), total=len(jobs), desc="asked", unit=" files", mininterval=interval()))


def _targets(bench: Bench, variants: Sequence[str]) -> list[Target]:
    return [Target(variant, bench.ground.clean(variant), bench.ground.clean(variant)) for variant in variants]


def _judge(
    examination: Examination, cases: Sequence[Saved], pool: Pool, targets: Sequence[Target]
) -> list[tuple[Target, list[Result]]]:
    def one(worker: Worker, target: Target) -> list[Result]:
        return examination.judge(worker, target, cases)

    return list(zip(targets, pool.map(one, targets), strict=True))


def _measures(results: Sequence[Result]) -> dict[str, float]:
    """The worst of every measure over the levels."""
    found: dict[str, float] = {}
    for result in results:
        for judged in result.measures:
            name, value = f"{result.check}.{judged.measure.name}", judged.measure.value
            known = found.get(name, value)
            found[name] = max(known, value) if judged.upper else min(known, value)
    return found


def as_data(entries: Sequence[Finding] | Sequence[Clean]) -> list[dict[str, Any]]:
    """Findings or clean results as plain data."""
    return [asdict(entry) for entry in entries]
