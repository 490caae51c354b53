"""The embedded recipe with less to do, for tests of what comes after; and runtimes asked by it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.recipe.recipe import Recipe, read_recipe
from pipeline.recipe.runtimes import Runtimes
from pipeline.variants import model_file
from tests.conftest import EMBEDDED
from tests.support.short_recipe import with_checks, without_runtimes
from verify.interop import planned, run_runtimes
from verify.interop.run_runtimes import Outcome
from verify.reference.corpus import Corpus
from verify.reference.model import Reference
from verify.run_checks import Target


def shorter(runtime: str, **settings: Any) -> Recipe:
    """The embedded recipe with one runtime, required, and less to do."""
    recipe = read_recipe(EMBEDDED)
    runtimes = Runtimes(
        (runtime,),
        (runtime,),
        (6,),
        (9, 4),
        new_tokens=8,
        lengths=(33,),
        timeout_s=600,  # a busy machine is no failure
        settings={runtime: settings},
    )
    return replace(recipe, verify=replace(recipe.verify, runtimes=runtimes))


def outcome(recipe: Recipe, reference: Reference, targets: Sequence[Target]) -> Outcome:
    runtimes = planned.plan(recipe, [target.variant for target in targets])
    missing = [runtime.missing for runtime in runtimes if runtime.missing is not None]
    if missing and not os.environ.get("PIPELINE_CI"):
        pytest.skip(f"{missing[0].what} is not installed")
    corpus = Corpus(recipe.text_path, reference.tokenizer, recipe.verify.seed)
    return run_runtimes.examine(recipe, runtimes, reference, corpus, targets)


def files(build: Path, variants: Sequence[str]) -> list[Target]:
    return [Target(variant, build / "embedded" / variant / model_file(variant)) for variant in variants]


def levels(*configurations: str) -> set[str]:
    """Return what results of these configurations are called, of a runtime that has kernels of its own."""
    return {f"{name}{part}" for name in configurations for part in ("", ", long prompts", ", without roundings")}


def failures(found: Outcome) -> list[str]:
    bad = [result for result in found.results if not result.passed]
    measures = [f"{r.check}.{j.measure.name}: {j.measure.detail}" for r in bad for j in r.measures if not j.passed]
    return measures + [r.failure for r in bad if r.failure is not None]


def quick(directory: Path, *, webgpu: bool = False, runtimes: bool = False) -> Path:
    """The recipe, judged by two cheap checks at one level: what the others find out is another test's matter.

    `webgpu` keeps the recipe's default there, which convert writes into config.json: for what the recipe itself built;
    `runtimes` keeps those that it asks.
    """
    text = EMBEDDED.read_text()
    text = with_checks(text, ["structure", "tokenizer"])
    text, count = re.subn(r"^levels = .*", 'levels = ["enable_all"]', text, flags=re.MULTILINE)
    assert count == 1
    if not runtimes:
        text = without_runtimes(text)
    if not webgpu:
        text = text.replace('webgpu = "q4"\n', "")  # what no browser has judged is no default there
    text = re.sub(r'^text = "(.*?)"', rf'text = "{EMBEDDED.parent}/\1"', text, flags=re.MULTILINE)
    path = directory / "embedded.toml"
    path.write_text(text)
    return path
