"""python -m benchmarks.cost.passes RECIPE [--build DIR] [--candidates]: what verify cannot do without, and no more.

The passes over all that `divergence` compares: the PyTorch reference's, or those of every file that is built.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import command
from pipeline.errors import PASSED
from pipeline.recipe.recipe import Recipe, read_recipe
from pipeline.typed import build
from pipeline.variants import model_file

if TYPE_CHECKING:  # torch takes seconds to load, and --help is to be instant
    from verify.candidate.session import Candidate
    from verify.reference.model import Reference


def main(argv: Sequence[str] | None) -> int:
    """Run every chunk of the text as verify does; nothing is compared."""
    parser = command.parser("benchmarks.cost.passes", "Run what verify compares, and compare nothing.")
    parser.add_argument("--candidates", action="store_true", help="run the built files in the place of the reference")
    arguments = parser.parse_args(argv)
    recipe = read_recipe(arguments.recipe)
    os.environ["HF_HUB_OFFLINE"] = "1"

    import numpy as np

    from model import tokenizer
    from verify.checks.divergence import Settings
    from verify.reference.corpus import Corpus

    home = arguments.build / recipe.name
    corpus = Corpus(recipe.text_path, tokenizer.load(home / "source"), recipe.verify.seed)
    settings = build(Settings, recipe.verify.settings.get("divergence", {}), where=f"{recipe.path}: verify.divergence")
    chunks = corpus.chunks(settings.chunk, settings.chunks)[:, None]
    scored = settings.chunk - settings.chunk // 2  # the logits that divergence asks for, and no others
    for model in _candidates(recipe, home) if arguments.candidates else _reference(recipe, home):
        for ids in chunks:
            model.forward(ids, np.ones_like(ids), np.arange(settings.chunk)[None], keep=scored)
    return PASSED


def _candidates(recipe: Recipe, home: Path) -> Iterator[Candidate]:
    """Yield all variants that are built, at the level that divergence is judged at, on all cores."""
    from verify.candidate.session import Candidate

    for variant in recipe.files:
        if (home / variant).is_dir():
            yield Candidate(home / variant / model_file(variant), recipe.verify.levels[-1])


def _reference(recipe: Recipe, home: Path) -> Iterator[Reference]:
    from verify.reference.model import Reference

    yield Reference(home / "source", allow_pickle=recipe.source.allow_pickle)


if __name__ == "__main__":
    raise SystemExit(command.run(main))
