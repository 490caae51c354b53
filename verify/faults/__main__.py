"""python -m verify.faults RECIPE [--build DIR] [--variant NAME ...] [--only FAULT ...] [--seeds N] [--explain].

On an emulated processor: --processor SET --sample N.
"""

from __future__ import annotations

import os
import tempfile
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline import command
from pipeline.errors import CHECK_FAILED, PASSED, RecipeError
from pipeline.recipe.recipe import Recipe, read_recipe
from pipeline.typed import did_you_mean
from pipeline.variants import base

SEEDS = 20


def main(argv: Sequence[str] | None) -> int:
    """Plant and judge; prints the table. Exit code 0 only if every fault is caught and no clean variant fails."""
    parser = command.parser("verify.faults", "Plant faults in built variants; the checks must catch each.")
    parser.add_argument("--variant", nargs="+", action="extend", metavar="NAME", help="only these (fp32 fp16 q8 q4)")
    parser.add_argument("--only", nargs="+", action="extend", metavar="FAULT", help="only these faults")
    parser.add_argument("--seeds", type=int, default=SEEDS, metavar="N", help=f"clean runs per variant ({SEEDS})")
    parser.add_argument("--no-runtimes", action="store_true", help="leave out what the recipe's runtimes must catch")
    parser.add_argument("--explain", action="store_true", help="also: is the planted node named (takes as long again)")
    parser.add_argument("--sample", type=int, metavar="N", help="only N of the faults, at their default magnitudes")
    parser.add_argument("--processor", metavar="SET", help="run the copies on an emulated processor, such as AVX2")
    arguments = parser.parse_args(argv)
    recipe = read_recipe(arguments.recipe)
    if arguments.seeds < 0:
        raise RecipeError(f"{arguments.seeds} seeds are not possible", where="--seeds", hint="write 0 or more")
    if arguments.sample is not None and arguments.sample < 1:
        raise RecipeError(f"{arguments.sample} faults are no sample", where="--sample", hint="write 1 or more")
    if arguments.explain and arguments.processor is not None:
        hint = "leave one of them out: an explanation runs graphs on this machine's own processor"
        raise RecipeError("--explain with --processor", where="--explain", hint=hint)
    os.environ["HF_HUB_OFFLINE"] = "1"

    from verify.faults.fault import IN_PLACE, VARIANTS, catalogue  # after parsing, so that --help is instant

    faults, made = catalogue(), [graph for variant in recipe.files for graph in recipe.graphs(variant)]
    known = [variant for variant in (*VARIANTS, *IN_PLACE) if variant in made]
    variants = _chosen(arguments.variant, known, "--variant")
    names = sample(_chosen(arguments.only, list(faults), "--only"), arguments.sample)
    return _run(recipe, arguments, variants, {name: faults[name] for name in names})


def _chosen(wanted: Sequence[str] | None, known: Sequence[str], where: str) -> list[str]:
    for name in wanted or ():
        if name not in known:
            raise RecipeError(f"unknown name {name!r}", where=where, hint=did_you_mean(name, known))
    return [name for name in known if not wanted or name in wanted]


def sample(names: Sequence[str], count: int | None) -> Sequence[str]:
    """`count` of the names, evenly spread over the families that they are sorted by; all if there is no count."""
    if count is None or count >= len(names):
        return names
    return [names[place * len(names) // count] for place in range(count)]


def _run(recipe: Recipe, arguments: Namespace, variants: Sequence[str], faults: Mapping[str, object]) -> int:
    from pipeline.artifact import lineage
    from verify import run_checks, verdict
    from verify.emulation.emulator import present
    from verify.faults import asking, explained, sweep, table
    from verify.faults.bench import Bench, Ground, shorter
    from verify.faults.fault import Fault, about
    from verify.sandbox.pool import Pool

    emulator = None if arguments.processor is None else present(arguments.processor)
    home: Path = arguments.build / recipe.name
    target = home / ("faults" if emulator is None else f"faults-{emulator.name}")
    origin, _ = lineage.open_built(recipe, [base(variant) for variant in variants], home)
    modules = run_checks.plan(recipe, recipe.verify.checks)
    verdict.require_tolerances(recipe, modules, list(variants))

    from verify.reference.corpus import Corpus
    from verify.reference.model import Reference

    command.say("faults: loading the reference")
    reference = Reference(origin.path, allow_pickle=recipe.source.allow_pickle, context=recipe.verify.context)
    corpus = Corpus(recipe.text_path, reference.tokenizer, recipe.verify.seed)
    settings = shorter(run_checks.settings_of(recipe, modules))
    examination = run_checks.Examination(recipe, reference, corpus, modules, settings)
    unseen = sorted(set(range(reference.dimensions.vocabulary)) - set(corpus.ids.tolist()) - {reference.end})
    chosen = {name: entry for name, entry in faults.items() if isinstance(entry, Fault)}
    asked = not arguments.no_runtimes and emulator is None  # runtimes run on this machine's own processor
    questions = asking.prepare(recipe, [*chosen.values()], reference, corpus) if asked else None
    with (
        tempfile.TemporaryDirectory(dir=home, prefix=".faults-") as scratch,
        Pool(recipe.verify, emulator=emulator) as pool,
    ):
        cases = examination.prepare(Path(scratch))
        ground = Ground.of(home, reference, unseen)
        described = {name: about(entry, ground.at) for name, entry in chosen.items()}
        halving = arguments.sample is None
        bench = Bench(recipe, examination, cases, ground, Path(scratch), halving, questions)
        findings = sweep.sweep(bench, pool, chosen.values(), variants)
        cleans = sweep.clean(bench, pool, variants, arguments.seeds)
        report = table.document(recipe.name, described, findings, cleans)
        text = table.write(report, chosen, findings, target)
        if arguments.explain:  # takes as long again: what is known by now is on disk
            scores = explained.explain(bench, pool, chosen, findings)
            report = table.document(recipe.name, described, findings, cleans, scores)
            text = table.write(report, chosen, findings, target)
    print(text.partition("\n## Faults")[0])
    print(target)
    return PASSED if report["verdict"] == "passed" else CHECK_FAILED


if __name__ == "__main__":
    raise SystemExit(command.run(main))
