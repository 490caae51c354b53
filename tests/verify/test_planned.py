"""Entries that ask a runtime less: names that there are, something left to answer, and all of it in the report."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.errors import RecipeError
from pipeline.recipe.recipe import read_recipe
from pipeline.recipe.runtimes import Fewer
from tests.conftest import EMBEDDED
from tests.support.asking import shorter
from verify.interop import planned
from verify.interop.planned import NotRun
from verify.run_checks import Target
from verify.runtimes.browser import WEBGPU


@pytest.mark.parametrize(
    ("runtime", "name", "known"),
    [
        ("browser", WEBGPU, True),
        ("browser", "web", True),
        ("browser", "asyncify", True),
        ("browser", "asyncify, 2 thread ", False),
        ("onnxruntime", "enable_all, 1", True),
        ("onnxruntime", "all", False),
        ("processors", "AVX2, enable_all", True),
        ("processors", "AVX3", False),
        ("genai", "any", True),
        ("genai", "enable_all", False),
    ],
)
def test_fewer_questions_of_no_configuration_are_refused(runtime: str, name: str, *, known: bool) -> None:
    recipe = shorter(runtime, **({"webgpu": []} if runtime == "browser" else {}))
    fewer = Fewer(runtime, "it is slow", configurations=(name,), longest=9)
    own = replace(recipe, verify=replace(recipe.verify, runtimes=replace(recipe.verify.runtimes, fewer=(fewer,))))
    with contextlib.nullcontext() if known else pytest.raises(RecipeError, match="no configuration whose name"):
        planned.plan(own, ["fp32"])


@pytest.mark.parametrize(
    ("runtime", "entries", "refused"),
    [
        ("onnxruntime", [{"longest": 0}, {"texts": 0}], True),
        ("onnxruntime", [{"longest": 0, "texts": 0, "configurations": ("disable_all", "enable_")}], True),
        ("onnxruntime", [{"longest": 0, "texts": 0, "configurations": ("disable_all",)}], False),
        ("processors", [{"longest": 0}, {"texts": 0, "variants": ("fp32",)}], True),
        ("processors", [{"longest": 0}, {"texts": 0, "variants": ("q8",)}], False),
        ("genai", [{"longest": 0, "texts": 0, "configurations": ("any",)}], True),
    ],
)
def test_a_runtime_is_asked_something(runtime: str, entries: list[dict[str, Any]], *, refused: bool) -> None:
    """Else a required one would pass without an answer."""
    recipe = shorter(runtime)
    fewer = tuple(Fewer(runtime, "it is slow", **entry) for entry in entries)
    own = replace(recipe, verify=replace(recipe.verify, runtimes=replace(recipe.verify.runtimes, fewer=fewer)))
    with pytest.raises(RecipeError, match="is asked nothing about fp32") if refused else contextlib.nullcontext():
        planned.plan(own, ["fp32"])


def test_what_is_left_out_by_two_entries_together_is_not_run() -> None:
    recipe = shorter("onnxruntime")
    entries = [{"longest": 0, "reason": "one"}, {"texts": 0, "reason": "two"}]
    fewer = tuple(Fewer("onnxruntime", configurations=("disable_all",), **entry) for entry in entries)  # type: ignore[arg-type]
    own = replace(recipe, verify=replace(recipe.verify, runtimes=replace(recipe.verify.runtimes, fewer=fewer)))
    (runtime,) = planned.plan(own, ["fp32"])
    lengths: Any = SimpleNamespace(prompts=[], of=lambda _: [])
    questions: Any = SimpleNamespace(lengths=lengths, groups=[])
    found = planned.not_run([runtime], own.verify.runtimes, [Target("fp32", Path())], questions)
    places = [f"onnxruntime, disable_all, {threads}: fp32" for threads in ("1 thread", "2 threads")]
    assert list(found) == [NotRun(place, "one; two") for place in places]


def test_a_hint_to_leave_a_processor_out_can_be_followed() -> None:
    recipe = read_recipe(EMBEDDED)
    table = recipe.verify.runtimes
    settings = {**table.settings, "processors": {"sets": ["AVX2", "SSE4.2"]}}
    own = replace(recipe, verify=replace(recipe.verify, runtimes=replace(table, settings=settings)))
    assert "arm64" in str(table.fewer)
    assert planned.plan(own, ["fp32"])


def test_one_processor_can_be_required() -> None:
    recipe = shorter("processors", sets=["AVX2", "SSE4.2"], levels=["all"])
    runtimes = replace(recipe.verify.runtimes, require=("processors, AVX2, enable_all",))
    (found,) = planned.plan(replace(recipe, verify=replace(recipe.verify, runtimes=runtimes)), ["fp32"])
    assert found.required("AVX2, enable_all")
    assert not found.required("SSE4.2, enable_all")
