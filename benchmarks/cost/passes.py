"""python -m benchmarks.cost.passes RECIPE [--build DIR] [--candidates]: what verify cannot do without, and no more.

The passes over all that `divergence` compares: the PyTorch reference's; or those of every graph that is built, so many
at a time as verify judges, each with as many cores.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import command
from pipeline.errors import PASSED, ArtifactError
from pipeline.recipe.recipe import Recipe, read_recipe
from pipeline.typed import build
from pipeline.variants import model_file

if TYPE_CHECKING:  # torch takes seconds to load, and --help is to be instant
    from verify.candidate.session import Candidate
    from verify.check import Array
    from verify.reference.model import Reference


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
        _run_candidates(files, recipe.verify.levels[-1], chunks)
    else:
        from verify.reference.model import Reference

        _run(Reference(home / "source", allow_pickle=recipe.source.allow_pickle), chunks)
    return PASSED


def graphs(recipe: Recipe, home: Path) -> Iterator[Path]:
    """Yield every graph that is built, those in place too."""
    for variant in recipe.files:
        if (home / variant).is_dir():
            yield from (home / variant / model_file(name) for name in recipe.graphs(variant))


def _run_candidates(files: Sequence[Path], level: str, chunks: Array) -> None:
    """Run all graphs at the level that divergence is judged at."""
    from verify.run_checks import AT_A_TIME

    cores = sorted(os.sched_getaffinity(0))
    count = min(AT_A_TIME, len(cores), len(files))
    context = multiprocessing.get_context("spawn")
    free: Any = context.SimpleQueue()
    for first in range(count):
        free.put(cores[first::count])
    with ProcessPoolExecutor(count, context, _begin, (free,)) as pool:
        for _ in pool.map(_run_graph, files, [level] * len(files), [chunks] * len(files)):
            pass


def _begin(free: Any) -> None:
    """Take some cores for this process, and memory as verify's processes do."""
    from verify.sandbox.limits import keep_freed_memory

    os.sched_setaffinity(0, free.get())
    keep_freed_memory()


def _run_graph(graph: Path, level: str, chunks: Array) -> None:
    from verify.candidate.session import Candidate

    _run(Candidate(graph, level), chunks)


def _run(model: Candidate | Reference, chunks: Array) -> None:
    """Run int64 chunks [count, length], for the logits that divergence asks for and no others."""
    import numpy as np

    from verify.candidate.session import positions_of

    for ids in chunks:
        mask = np.ones((1, len(ids)), np.int64)
        model.forward(ids[None], mask, positions_of(mask), keep=len(ids) - len(ids) // 2)


if __name__ == "__main__":
    raise SystemExit(command.run(main))
