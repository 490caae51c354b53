"""A recipe's cap on the context shortens what is run, and nothing that is stated."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.recipe.recipe import read_recipe
from pipeline.recipe.runtimes import Runtimes
from pipeline.variants import model_file
from tests.conftest import EMBEDDED, ROOT
from verify import check, run
from verify.bounds.network import network_of
from verify.candidate.session import Candidate
from verify.interop import lengths
from verify.reference.corpus import Corpus
from verify.reference.model import Reference

CAP = 100
SOURCE = ROOT / "recipes" / "embedded"


@pytest.fixture(scope="module")
def reference() -> Reference:
    """The embedded model, of whose 256 positions a hundred are run."""
    return Reference(SOURCE, allow_pickle=False, context=CAP)


@pytest.fixture(scope="module")
def corpus(reference: Reference) -> Corpus:
    """The text that its recipe judges it on."""
    return Corpus(read_recipe(EMBEDDED).text_path, reference.tokenizer, 0)


def longest(arrays: Any) -> int:
    """The tokens of a case's longest row."""
    return int(arrays["mask"].shape[1])


@pytest.mark.parametrize(("name", "short"), [("logits", {"lengths": (5,)}), ("cache", {}), ("twin", {})])
def test_no_text_is_longer_than_the_cap_and_one_is_as_long(
    name: str, short: dict[str, Any], reference: Reference, corpus: Corpus
) -> None:
    module: Any = check.load(name)
    cases = list(module.cases(reference, corpus, module.Settings(**short)))
    assert max(longest(case.arrays) for case in cases if "mask" in case.arrays) == CAP


def test_generation_goes_up_to_the_cap(reference: Reference, corpus: Corpus) -> None:
    module: Any = check.load("generation")
    cases = module.cases(reference, corpus, module.Settings(beam_prompts=1))
    ends = [case.arrays["ids"].shape[1] + case.arrays["tokens"].shape[1] for case in cases if "tokens" in case.arrays]
    assert max(ends) == CAP


def test_runtimes_read_prompts_up_to_the_cap(reference: Reference, corpus: Corpus) -> None:
    asked = lengths.ask(reference, corpus, Runtimes(), "recipe")
    assert max(map(max, asked.prompts)) == CAP - lengths.GIVEN
    assert len(asked.text) == CAP


def test_positions_beyond_the_cap_are_still_met(reference: Reference, corpus: Corpus) -> None:
    module = check.load("logits")
    cases = {case.name: case for case in module.cases(reference, corpus, module.Settings())}
    positions = cases["irregular batch"].arrays["positions"]
    assert positions[2].tolist() == list(range(244, 256))  # no jump leads there: no model has learned what it means
    assert np.delete(positions, 2, axis=0).max() == CAP - 1


def test_what_is_drawn_by_position_ends_at_the_cap(reference: Reference, corpus: Corpus, build: Path) -> None:
    module: Any = check.load("logits")
    (case,) = (c for c in module.cases(reference, corpus, module.Settings()) if c.name == "irregular batch")
    partial = module.judge(Candidate(build / "embedded" / "fp32" / model_file("fp32"), "enable_all"), case)
    assert partial["at"].max() >= CAP
    drawn = module.series([partial], {"logits.max_abs": 1e-4}, reference)["by_position"]
    assert len(drawn["max"]) * drawn["width"] == CAP


def test_the_models_own_context_stays_what_is_stated(reference: Reference, corpus: Corpus) -> None:
    module = check.load("tokenizer")
    (case,) = module.cases(reference, corpus, module.Settings())
    assert case.facts["context"] == 256


def test_a_report_says_what_was_left_out(reference: Reference) -> None:
    assert run._shortened(reference) == [
        "texts of at most 100 of the model's 256 positions were judged (verify.context)"
    ]
    assert run._shortened(Reference(SOURCE, allow_pickle=False)) == []


def test_bounds_are_derived_for_the_texts_that_are_run() -> None:
    recipe = read_recipe(EMBEDDED)
    whole = network_of(recipe)
    capped = network_of(replace(recipe, verify=replace(recipe.verify, context=CAP)))
    assert whole is not None
    assert capped is not None
    assert (whole.context, capped.context) == (256, CAP)
    assert capped.largest_logits() < whole.largest_logits()
