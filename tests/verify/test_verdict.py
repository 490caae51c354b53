"""The verdict: what counts as passed, and recipes that would leave something unjudged."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import pytest

from pipeline.errors import RecipeError
from pipeline.recipe.recipe import Recipe, read_recipe
from pipeline.recipe.tolerances import Limit, Tolerance
from tests.conftest import EMBEDDED
from verify import run_checks
from verify.check import Measure, load
from verify.verdict import Judged, Result, judge, require_tolerances


@pytest.fixture
def recipe() -> Recipe:
    return read_recipe(EMBEDDED)


def with_limit(recipe: Recipe, bound: float, *, upper: bool = True) -> Recipe:
    tolerance = Tolerance("because", {"fp32": Limit(bound, upper, 0.0)})
    return dataclasses.replace(recipe, tolerances={"logits": {"max_abs": tolerance}})


@pytest.mark.parametrize(
    ("measure", "passes"),
    [
        (Measure("max_abs", 1.0, 10), True),
        (Measure("max_abs", 1.01, 10), False),
        (Measure("max_abs", 0.0, 0), False),
        (Measure("max_abs", float("nan"), 10), False),
        (Measure("max_abs", float("-inf"), 10), False),
    ],
)
def test_a_value_holds_only_if_finite_compared_and_within(recipe: Recipe, measure: Measure, passes: bool) -> None:
    assert judge(with_limit(recipe, 1.0), "logits", "fp32", measure).passed is passes


def test_a_lower_bound_is_a_lower_bound(recipe: Recipe) -> None:
    lower = with_limit(recipe, 0.9, upper=False)
    assert judge(lower, "logits", "fp32", Measure("max_abs", 0.95, 1)).passed
    assert not judge(lower, "logits", "fp32", Measure("max_abs", 0.85, 1)).passed


def test_a_violation_needs_no_tolerance(recipe: Recipe) -> None:
    assert not judge(recipe, "structure", "fp32", Measure("checker", 1, 1, fixed=0)).passed


@pytest.mark.parametrize(
    ("result", "passes"),
    [
        (Result("fp32", "logits", "any", (), failure="crashed"), False),
        (Result("fp32", "logits", "any", ()), False),
        (Result("fp32", "logits", "any", (Judged(Measure("a", 0, 1), 0, upper=True, passed=True, reason=""),)), True),
    ],
)
def test_a_check_without_measures_has_not_passed(result: Result, passes: bool) -> None:
    assert result.passed is passes


def modules(*names: str) -> dict[str, Any]:
    return {name: load(name) for name in names}


def test_every_figure_of_every_variant_must_be_bounded(recipe: Recipe) -> None:
    with pytest.raises(RecipeError, match="no tolerance for variant 'q8'"):
        require_tolerances(with_limit(recipe, 1.0), modules("logits"), ["fp32", "q8"][1:])


def test_a_figure_without_a_bound_can_be_measured_to_find_one_but_fails(recipe: Recipe) -> None:
    partly = with_limit(recipe, 1.0)
    require_tolerances(partly, modules("logits"), ["q8"], measuring=True)
    judged = judge(partly, "logits", "q8", Measure("max_abs", 0.0, 1))
    assert (judged.bound, judged.upper, judged.passed) == (None, True, False)
    with pytest.raises(RecipeError, match="wrong side"):
        require_tolerances(with_limit(recipe, 1.0, upper=False), modules("logits"), ["fp32"], measuring=True)


def test_a_tolerance_for_no_figure_is_refused(recipe: Recipe) -> None:
    odd = dataclasses.replace(recipe, tolerances={"logits": {"max_absolute": Tolerance("x", {})}})
    with pytest.raises(RecipeError, match="logits measures no 'max_absolute'") as caught:
        require_tolerances(odd, modules("logits"), ["fp32"])
    assert "max_abs" in caught.value.hint


def test_a_bound_on_the_wrong_side_is_refused(recipe: Recipe) -> None:
    with pytest.raises(RecipeError, match="wrong side"):
        require_tolerances(with_limit(recipe, 1.0, upper=False), modules("logits"), ["fp32"])


def test_the_committed_recipes_bound_everything() -> None:
    for path in sorted(EMBEDDED.parent.glob("*.toml")):
        recipe = read_recipe(path)
        chosen = run_checks.plan(recipe, recipe.verify.checks)
        require_tolerances(recipe, chosen, recipe.files)
        run_checks.settings_of(recipe, chosen)


def test_no_tolerance_of_the_committed_recipes_is_a_placeholder() -> None:
    for path in sorted(EMBEDDED.parent.glob("*.toml")):
        for figures in read_recipe(path).tolerances.values():
            for name, tolerance in figures.items():
                # fp32's divergences are derived, 1e-8 at most; the others may measure nothing, or one step of many.
                slack = 1e-8 if name.endswith("_kld") else 0.5
                for variant, limit in tolerance.limits.items():
                    where = f"{path.name}: {name}: {variant}"
                    assert (
                        limit.bound <= 3 * limit.measured + slack
                        if limit.upper
                        else limit.bound > 0.95 * limit.measured
                    ), where


def test_a_check_runs_after_what_it_needs(recipe: Recipe) -> None:
    assert list(run_checks.plan(recipe, ["generation", "logits"])) == ["logits", "generation"]
    with pytest.raises(RecipeError, match="generation needs logits"):
        run_checks.plan(recipe, ["generation"])


def test_an_unknown_setting_is_refused(recipe: Recipe) -> None:
    verify = dataclasses.replace(recipe.verify, settings={"logits": {"length": [3]}})
    with pytest.raises(RecipeError, match="unknown key 'length'"):
        run_checks.settings_of(dataclasses.replace(recipe, verify=verify), modules("logits"))


@pytest.mark.parametrize(
    ("check", "settings", "message"),
    [
        ("logits", {"lengths": [300]}, "length 300 does not fit"),
        ("logits", {"lengths": []}, "nothing to run"),
        ("logits", {"batches": [[]]}, "nothing to run"),
        ("logits", {"batches": [[5]]}, "no batch of several rows"),
        ("cache", {"batch": [2]}, "length 2 does not fit"),
        ("cache", {"length": 3}, "length 3 does not fit"),
        ("cache", {"prompt": 48}, "length 48 does not fit"),
        ("cache", {"splits": 0}, "0 is not possible"),
        ("generation", {"prompts": []}, "nothing to run"),
        ("generation", {"beam_tokens": 250}, "length 250 does not fit"),
        ("generation", {"temperature": 0}, "0.0 is not possible"),
        ("divergence", {"chunk": 1}, "length 1 does not fit"),
        ("divergence", {"chunk": 64, "chunks": 0}, "0 is not possible"),
        ("tokenizer", {"piece": 0}, "0 is not possible"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    recipe: Recipe, check: str, settings: dict[str, Any], message: str
) -> None:
    verify = dataclasses.replace(recipe.verify, settings={check: settings})
    made = run_checks.settings_of(dataclasses.replace(recipe, verify=verify), modules(check))[check]
    with pytest.raises(RecipeError, match=message):
        made.check("recipe", 256)


def test_what_is_out_of_bounds_excuses_no_near_tie() -> None:
    """A candidate whose logits are infinitely wrong must not turn every wrong token into a near tie."""
    generation, nobody = load("generation"), cast("Any", None)  # these measures ask the reference nothing
    differing = [{"case": "greedy", "row": 0, "step": 0, "margin": 0.5, "token": 1}]
    partials = [{"kind": kind, "differing": differing, "steps": 10} for kind in ("greedy", "sampling")]
    for error, hard in ((0.1, 1), (0.6, 0)):
        measures = {m.name: m.value for m in generation.summarize(partials, {"logits.max_abs": error}, nobody)}
        assert measures["greedy_mismatch"] == measures["sampling_mismatch"] == hard
