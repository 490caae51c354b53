"""Assume a recipe for files that other programs made of a checkpoint: written beside the report, for all to read."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from model import new_recipe
from pipeline.command import say
from pipeline.plugins import ROOT
from pipeline.recipe.recipe import Recipe, read_recipe
from pipeline.recipe.tolerances import Basis
from verify.bounds import usual
from verify.bounds.derive import rounded_up
from verify.candidate.width import variant_of
from verify.processor import instruction_sets
from verify.reference.corpus import Corpus

if TYPE_CHECKING:  # torch takes seconds to load
    from verify.reference.model import Reference

FILE = "assumed-recipe.toml"
TEXT = ROOT / "recipes" / new_recipe.TEXT
MARGIN = 1.25  # what the largest logits and cache of other pieces of a text may be beyond those that were looked at
PIECES, LONGEST = 4, 512  # of the text that are looked at, and tokens of each
NOTICE = (
    "no recipe was given: bounds that are not derived are the usual ones for files of this width, so that a fault "
    "within them passes; and no program that loads the file was asked"
)


def recipe_for(checkpoint: Path, build: Path) -> Recipe:
    """Write the recipe for what is made of this checkpoint into the build directory, and return it read.

    Raises InputError for a checkpoint that cannot be read.
    """
    found = new_recipe.describe(checkpoint, checkpoint.resolve().name, checkpoint.resolve(), None)
    home = build / found.name
    home.mkdir(parents=True, exist_ok=True)
    text = new_recipe.text_of(found, text=os.path.relpath(TEXT, home), foreign=True)
    with tempfile.TemporaryDirectory(dir=build) as scratch:  # as deep as the recipe will lie, for the text's sake
        staged = Path(scratch, FILE)
        staged.write_text(text, encoding="utf-8")
        recipe = read_recipe(staged)
        say("verify: measuring the ranges of logits and cache, for the bounds of a recipe")
        from verify.reference.model import Reference

        based = replace(recipe, basis=_basis(Reference(checkpoint, allow_pickle=False), recipe))
        staged.write_text(text + usual.tables(based), encoding="utf-8")
        staged.replace(home / FILE)
    say(f"verify: no recipe was given; this one is assumed: {home / FILE}")
    return read_recipe(home / FILE)


def variant(path: Path) -> str:
    """Return the variant whose tolerances a file is judged by, from how its weights are stored."""
    import onnx

    return variant_of(onnx.load(path, load_external_data=False))


def _basis(reference: Reference, recipe: Recipe) -> Basis:
    """The largest logits, and keys and values, of some pieces of the text, and a margin."""
    corpus = Corpus(recipe.text_path, reference.tokenizer, recipe.verify.seed)
    length = min(LONGEST, reference.dimensions.context)
    logits = cache = 0.0
    for place in range(PIECES):
        ids = corpus.piece(length, place)[None]
        answer = reference.forward(ids, np.ones_like(ids), np.arange(length, dtype=np.int64)[None])
        logits = max(logits, float(np.abs(answer.logits).max()))
        cache = max(cache, *(float(np.abs(value).max()) for value in answer.present().values()))
    return Basis(instruction_sets()[:1], rounded_up(MARGIN * logits), rounded_up(MARGIN * cache))
