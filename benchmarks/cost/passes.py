"""python -m benchmarks.cost.passes RECIPE [--build DIR] [--candidates]: what verify cannot do without, and no more.

The passes over all that `divergence` compares: the PyTorch reference's; or those of every graph that is built, so many
at a time as verify judges, each with as many cores.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import command
from pipeline.errors import PASSED, ArtifactError
from pipeline.recipe.recipe import Recipe, read_recipe
from pipeline.typed import build
from pipeline.variants import model_file

if TYPE_CHECKING:  # torch takes seconds to load, and --help is to be instant
    from verify.candidate.session import Candidate
    from verify.check import Array, Case, Partial
    from verify.reference.model import Reference
    from verify.sandbox.worker import Worker


def main(argv: Sequence[str] | None) -> int:
    """Run every chunk of the text as verify does; nothing is compared."""
    parser = command.parser("benchmarks.cost.passes", "Run what verify compares, and compare nothing.")
    parser.add_argument("--candidates", action="store_true", help="run the built files in the place of the reference")
    arguments = parser.parse_args(argv)
    recipe = read_recipe(arguments.recipe)
    os.environ["HF_HUB_OFFLINE"] = "1"

    from model import tokenizer
    from verify.checks.divergence import Settings
    from verify.reference.corpus import Corpus

    home = arguments.build / recipe.name
    corpus = Corpus(recipe.text_path, tokenizer.load(home / "source"), recipe.verify.seed)
    settings = build(Settings, recipe.verify.settings.get("divergence", {}), where=f"{recipe.path}: verify.divergence")
    chunks = corpus.chunks(settings.chunk, settings.chunks)
    if arguments.candidates:
        files = list(graphs(recipe, home))
        if not files:
            hint = f"run: {command.invocation('convert', recipe.path, arguments.build)}"
            raise ArtifactError("nothing is built", where=home, hint=hint)
        _run_candidates(recipe, files, chunks)
    else:
        from verify.reference.model import Reference

        reference = Reference(home / "source", allow_pickle=recipe.source.allow_pickle)
        for ids in chunks:
            _run(reference, ids)
    return PASSED


def graphs(recipe: Recipe, home: Path) -> Iterator[Path]:
    """Yield every graph that is built, those in place too."""
    for variant in recipe.files:
        if (home / variant).is_dir():
            yield from (home / variant / model_file(name) for name in recipe.graphs(variant))


def _run_candidates(recipe: Recipe, files: Sequence[Path], chunks: Array) -> None:
    """Run all graphs in verify's processes, at the level that divergence is judged at."""
    from verify.check import Case
    from verify.run_checks import AT_A_TIME
    from verify.sandbox.pool import Pool

    with tempfile.TemporaryDirectory() as scratch, Pool(recipe.verify, most=min(AT_A_TIME, len(files))) as pool:
        cases = [Path(scratch, str(number)) for number in range(len(chunks))]
        for ids, case in zip(chunks, cases, strict=True):
            Case(case.name, {"ids": ids}).save(case)

        def one(worker: Worker, graph: Path) -> None:
            worker.aim(graph, recipe.verify.levels[-1])
            for case in cases:
                worker.judge("benchmarks.cost.passes", case)

        for _ in pool.map(one, files):
            pass


def judge(candidate: Candidate, case: Case) -> Partial:
    """Run one chunk, as a check is asked by verify's processes; there is nothing to tell."""
    _run(candidate, case.arrays["ids"])
    return {}


def _run(model: Candidate | Reference, ids: Array) -> None:
    """Run a chunk of int64 ids [length], for the logits that divergence asks for and no others."""
    import numpy as np

    from verify.candidate.session import positions_of

    mask = np.ones((1, len(ids)), np.int64)
    model.forward(ids[None], mask, positions_of(mask), keep=len(ids) - len(ids) // 2)


if __name__ == "__main__":
    raise SystemExit(command.run(main))
