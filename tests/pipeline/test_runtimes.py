"""The recipe's table of runtimes."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.errors import RecipeError
from pipeline.recipe.recipe import read_recipe
from pipeline.recipe.runtimes import Runtimes, read_runtimes, runtime_of
from tests.conftest import EMBEDDED

FEWER = {"runtime": "optimum", "longest": 33, "reason": "it is slow"}


def test_none_are_run_unless_the_recipe_names_them() -> None:
    assert read_runtimes({}, "here") == Runtimes(run=(), require=())


def test_the_embedded_recipe_requires_the_loaders() -> None:
    runtimes = read_recipe(EMBEDDED).verify.runtimes
    required = set(map(runtime_of, runtimes.require))
    assert {"optimum", "transformersjs"} <= required < set(runtimes.run)
    assert runtimes.requires("browser", "webgpu")
    assert not runtimes.requires("browser", "plain, 1 thread")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"run": ["transformerjs"]}, "did you mean 'transformersjs'"),
        ({"require": ["optimum"]}, "required but not run"),
        ({"run": ["optimum", "optimum"]}, "named twice"),
        ({"deno": {}}, "unknown key 'deno'"),
        ({"settings": {}}, "name the runtime itself: browser, genai, onnxruntime, optimum, processors, transformersjs"),
        ({"batch": [5, 5]}, "not ragged"),
        ({"prompts": []}, "positive"),
        ({"new_tokens": 0}, "positive"),
        ({"timeout_s": -1}, "positive"),
        ({"lengths": [0]}, "positive"),
        ({"run": ["optimum"], "fewer": [{**FEWER, "runtime": "gnai"}]}, "'gnai' does not exist"),
        ({"run": ["optimum"], "fewer": [{**FEWER, "variants": ["q5"]}]}, "'q5' is not a variant"),
        ({"run": ["optimum"], "fewer": [{**FEWER, "reason": " "}]}, "no reason"),
        ({"run": ["optimum"], "fewer": [{**FEWER, "padded": -1}]}, "a negative number"),
        ({"run": ["optimum"], "fewer": [{**FEWER, "texts": -1}]}, "a negative number"),
        ({"run": ["optimum"], "fewer": [{**FEWER, "longest": 0, "texts": 0}]}, "nothing is asked"),
        ({"run": "optimum"}, "run"),
        (5, "expected a table"),
    ],
)
def test_what_cannot_be_is_refused(table: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        read_runtimes(table, "recipe: verify.runtimes")
