"""python -m benchmarks.cost.reference_pass RECIPE [--build DIR]: the reference alone on what `divergence` compares."""

from __future__ import annotations

import os
from collections.abc import Sequence

from pipeline import command
from pipeline.errors import PASSED
from pipeline.recipe.recipe import read_recipe
from pipeline.typed import build


def main(argv: Sequence[str] | None) -> int:
    """Load the source and the text as verify does, and run PyTorch over every chunk; nothing is compared."""
    arguments = command.parser("benchmarks.cost.reference_pass", "Run the reference alone.").parse_args(argv)
    recipe = read_recipe(arguments.recipe)
    os.environ["HF_HUB_OFFLINE"] = "1"

    import numpy as np  # after parsing, so that --help is instant

    from verify.checks.divergence import Settings
    from verify.reference.corpus import Corpus
    from verify.reference.model import Reference

    settings = build(Settings, recipe.verify.settings.get("divergence", {}), where=f"{recipe.path}: verify.divergence")
    reference = Reference(arguments.build / recipe.name / "source", allow_pickle=recipe.source.allow_pickle)
    corpus = Corpus(recipe.text_path, reference.tokenizer, recipe.verify.seed)
    for ids in corpus.chunks(settings.chunk, settings.chunks):
        scored = len(ids) - len(ids) // 2  # the logits that divergence asks for, and no others
        reference.forward(ids[None], np.ones((1, len(ids)), np.int64), np.arange(len(ids))[None], keep=scored)
    return PASSED


if __name__ == "__main__":
    raise SystemExit(command.run(main))
