"""Test the tables of `verify --tolerances`: derived bounds, measured ones, and what they rest on, as TOML."""

from __future__ import annotations

import dataclasses
import math
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.recipe.recipe import Recipe, read_recipe
from pipeline.recipe.tolerances import Basis
from tests.conftest import EMBEDDED
from tests.support import report_document as made
from verify.bounds import tables
from verify.bounds.derive import derive
from verify.check import Measure
from verify.checks.logits import RANGE
from verify.report.document import failed
from verify.verdict import Judged, Result


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return read_recipe(EMBEDDED)


def judged(name: str, value: float, *, upper: bool = True) -> Judged:
    return Judged(Measure(name, value, 100), 1.0 if upper else 0.0, upper, passed=True, reason="")


def of_size(check: str, value: float) -> Result:
    return Result("fp32", check, "any", (Judged(Measure(RANGE, value, 1, judged=False), None, True, True, ""),))


def parsed(text: str) -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads(text)["tolerances"]
    return found


@given(st.floats(1e-15, 1e6), st.floats(0, 1), st.sampled_from([1.0, 1.25, 3.0]))
def test_printed_tolerances_pass_and_can_be_pasted(value: float, share: float, factor: float) -> None:
    recipe = read_recipe(EMBEDDED)
    result = Result("q8", "divergence", "any", (judged("mean_kld", value), judged("same_top", share, upper=False)))
    found = parsed(tables.tolerances(made.make([result])["headroom"], recipe, factor))
    assert {check: set(figures) for check, figures in found.items()} == {
        check: set(figures) for check, figures in recipe.tolerances.items()
    }
    new = found["divergence"]["mean_kld"]["q8"]
    assert value * factor <= new["max"] <= 1.02 * value * factor
    assert new["measured"] <= new["max"]
    assert found["divergence"]["same_top"]["q8"]["min"] <= max(1 - factor * (1 - share), 0)
    untouched = recipe.tolerances["divergence"]["mean_kld"].limits["q4"]
    assert found["divergence"]["mean_kld"]["q4"] == {"max": untouched.bound, "measured": untouched.measured}


def test_a_derived_bound_is_printed_whatever_was_measured(recipe: Recipe) -> None:
    derivation = derive(recipe)["logits", "batch_dependence"]
    for value, said in ((0.0, "derived; was"), (1.0, "derived, and EXCEEDED")):
        result = Result("q8", "logits", "any", (judged("batch_dependence", value),))
        text = tables.tolerances(made.make([result])["headroom"], recipe, 1.5)
        found = parsed(text)["logits"]["batch_dependence"]
        assert found["q8"] == {"max": derivation.bounds["q8"], "measured": value}
        assert found["reason"] == f"Derived (verify/bounds): {derivation.how}."
        block = text.partition("[tolerances.logits.batch_dependence]")[2]
        line = next(line for line in block.splitlines() if line.startswith("q8"))
        assert said in line


def test_of_a_reason_what_it_says_of_measured_variants_is_kept(recipe: Recipe) -> None:
    stated = "fp32: whatever. Others: what a person wrote."
    figures = {"logits": {"max_abs": dataclasses.replace(recipe.tolerances["logits"]["max_abs"], reason=stated)}}
    found = parsed(tables.tolerances([], dataclasses.replace(recipe, tolerances=figures), 1.0))
    reason = found["logits"]["max_abs"]["reason"]
    assert reason.startswith("fp32: derived (verify/bounds), order of float32 sums through 6 layers")
    assert reason.endswith(" Others: what a person wrote.")


def test_a_report_says_where_it_measured_and_widens_ranges(recipe: Recipe) -> None:
    report = made.make([of_size("logits", 45.03), of_size("cache", 0.5)])
    found = parsed(tables.tables([report], recipe, 1.0))
    assert found["measured_on"] == ["AVX2"]
    assert (found["logits_range"], found["cache_range"]) == (46.0, recipe.basis.cache_range)
    wider = derive(dataclasses.replace(recipe, basis=Basis(("AVX2",), 46.0, recipe.basis.cache_range)))
    assert found["logits"]["on_demand"]["q8"]["max"] == wider["logits", "on_demand"].bounds["q8"]
    assert found["logits"]["on_demand"]["q8"]["max"] > recipe.limit("logits", "on_demand", "q8").bound


def test_printed_tolerances_make_a_recipe(recipe: Recipe, tmp_path: Path) -> None:
    head = EMBEDDED.read_text().split("[tolerances]")[0]
    report = made.make([made.divergence("q8", 4.2e-5), made.logits("q8", "any", math.inf)])
    text = tables.tables([report], recipe, 1.25)
    (tmp_path / "recipe.toml").write_text(head + text)
    again = read_recipe(tmp_path / "recipe.toml")
    assert again.limit("divergence", "mean_kld", "q8").bound == pytest.approx(5.25e-5)
    assert again.limit("logits", "max_abs", "q8") == recipe.limit("logits", "max_abs", "q8")
    assert "not finite in this run" in text
    assert dataclasses.replace(again, path=recipe.path).verify == recipe.verify
    assert again.basis == dataclasses.replace(recipe.basis, measured_on=("AVX2",))


def test_a_figure_without_a_bound_gets_a_line_and_no_reason(recipe: Recipe) -> None:
    bare = dataclasses.replace(recipe, tolerances={"divergence": {}}, basis=Basis())
    unset = Judged(Measure("mean_kld", 4.2e-5, 100), None, upper=True, passed=False, reason="")
    report = made.make([Result("q8", "divergence", "any", (unset,))])
    assert "mean_kld is 4.2e-05, allowed nothing yet" in failed(report)[0]
    assert parsed(tables.tolerances(report["headroom"], bare, 1.0))["divergence"] == {
        "mean_kld": {"reason": "", "q8": {"max": 4.2e-5, "measured": 4.2e-5}}
    }
