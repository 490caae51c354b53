"""Prompts of every length: which are asked, what a wrong answer at any one place makes, what is said to be left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import RecipeError
from pipeline.recipe.recipe import read_recipe
from pipeline.recipe.runtimes import Extent, Fewer, Runtimes
from tests.conftest import EMBEDDED
from verify.check import Array
from verify.interop import lengths, planned
from verify.interop.lengths import GIVEN, Lengths
from verify.interop.likeliest import STATED, best_of, errors, top_of
from verify.interop.planned import Planned
from verify.run_checks import Target

CONTEXT, VOCABULARY = 300, 20
WHOLE = Extent()
Wrong = Callable[["Call"], bool] | None
TABLE = np.random.default_rng(3).normal(size=(VOCABULARY, VOCABULARY)).astype(np.float32) * 3


class Echo:
    """A reference whose logits depend on the token and its position alone, as a right program's do."""

    context = CONTEXT

    def forward(self, ids: Array, _mask: Array, positions: Array) -> Any:
        return SimpleNamespace(logits=echo(ids, positions))


class Text:
    def piece(self, length: int, place: int) -> Array:
        return np.random.default_rng(place).integers(0, VOCABULARY, length)


def echo(ids: Array, positions: Array) -> Array:
    return TABLE[ids] + np.float32(0.01) * positions[..., None] * np.sin(np.arange(VOCABULARY, dtype=np.float32))


def asked(**table: Any) -> Lengths:
    reference: Any = Echo()
    corpus: Any = Text()
    return lengths.ask(reference, corpus, Runtimes(**table), "recipe")


@dataclass(frozen=True)
class Call:
    """A row of one call: tokens that are read, tokens with their past, and the row's number."""

    tokens: int
    total: int
    row: int


def answers(given: Lengths, wrong: Wrong = None) -> list[Any]:
    """Return what a program says that adds 1 to a row's likeliest logit where `wrong` says so."""

    def forward(ids: Array, mask: Array, positions: Array, _: Any) -> tuple[Array, None]:
        logits = echo(ids, positions)
        for row in range(len(ids)):
            if wrong is not None and wrong(Call(ids.shape[1], mask.shape[1], row)):
                logits[row, -1, logits[row, -1].argmax()] += 1
        return logits, None

    return [lengths.answer(question, 0, forward) for question in given.asked()]


def figures(given: Lengths, wrong: Wrong = None, extent: Extent = WHOLE) -> dict[str, float]:
    asked = given.of(extent)
    own = [answer for answer, rows in zip(answers(given, wrong), given.prompts, strict=True) if rows in asked]
    return {check: measures[0].value for check, measures in given.measures(own, extent).items()}


def test_the_prompts_are_just_beyond_powers_of_two_and_near_the_context() -> None:
    last = CONTEXT - GIVEN
    rows = [(33,), (33, 16), (65,), (65, 32), (129,), (129, 64), (257,), (257, 128), (last,), (last, last // 2)]
    assert list(asked().prompts) == rows
    assert asked(lengths=(33, 65), padded=(33,)).prompts == ((33,), (33, 16), (65,))
    assert max(len(row) for question in asked().asked() for row in question["rows"]) == CONTEXT


def test_a_right_program_errs_nowhere() -> None:
    assert figures(asked()) == pytest.approx({"logits": 0, "cache": 0}, abs=1e-5)
    compared = asked().measures(answers(asked()), WHOLE)["logits"][0].compared
    assert compared == STATED * sum(sum(rows) for rows in asked().prompts)


@pytest.mark.parametrize("beyond", [32, 64, 128, 256, CONTEXT - 8])
def test_what_is_wrong_beyond_any_length_is_seen_in_the_pass_or_in_the_steps(beyond: int) -> None:
    passes = figures(asked(), lambda call: call.tokens > beyond)
    steps = figures(asked(), lambda call: call.tokens == 1 and call.total > beyond)
    assert passes == pytest.approx({"logits": 1, "cache": 0}, abs=1e-5)
    assert steps == pytest.approx({"logits": 0, "cache": 1}, abs=1e-5)


def test_what_is_wrong_in_padded_rows_alone_is_seen() -> None:
    assert figures(asked(), lambda call: call.row == 1)["logits"] == pytest.approx(1, abs=1e-5)


def test_what_is_not_asked_is_not_compared() -> None:
    given, short, single = asked(), Extent(longest=64), Extent(padded=64)
    assert figures(given, lambda call: call.tokens > 64, short)["logits"] < 1e-5
    assert figures(given, lambda call: call.row == 1 and call.tokens > 64, single)["logits"] < 1e-5
    assert figures(given, lambda call: call.row == 1 and call.tokens > 32, single)["logits"] > 0.9
    assert figures(given, lambda call: call.tokens > CONTEXT - 8, single)["logits"] > 0.9


@given(st.integers(33, CONTEXT), st.integers(0, CONTEXT))
def test_a_runtime_is_asked_what_the_judge_compares(longest: int, padded: int) -> None:
    given, extent = asked(), Extent(longest, padded)
    questions = lengths.within(given.asked(), extent)
    assert [tuple(len(row) - GIVEN for row in question["rows"]) for question in questions] == given.of(extent)


def test_where_nothing_is_asked_nothing_is_judged() -> None:
    assert figures(asked(), extent=Extent(longest=0)) == {}
    with pytest.raises(ValueError, match="longer"):
        asked().measures(answers(asked()), Extent(longest=0))


def configurations(runtime: Planned) -> list[str]:
    """Return what a runtime calls its configurations under the recipe's settings."""
    return planned._configurations(runtime.module, runtime.settings)


@pytest.mark.parametrize("name", ["embedded", "gpt-2-70m"])
def test_every_length_is_read_by_every_runtime_of_the_recipes(name: str) -> None:
    """But by the emulated processors for the large model; what is left out names configurations that there are."""
    recipe = read_recipe(EMBEDDED.with_name(f"{name}.toml"))
    table, context = recipe.verify.runtimes, recipe.source.expect.context or 0
    reference: Any = SimpleNamespace(context=context, forward=Echo().forward)
    corpus: Any = Text()
    given = lengths.ask(reference, corpus, table, name)
    every = {33, 65, 129, context - GIVEN} | ({257} if context > 260 else set())
    for runtime in planned.plan(recipe, []):
        places = configurations(runtime)
        for entry in table.fewer:
            named = entry.configurations if entry.runtime == runtime.name else ()
            assert all(any(place.startswith(part) for place in places) for part in named)
        read = {rows[0] for place in places for rows in given.of(table.extent(runtime.name, "fp32", place))}
        assert read == ({33} if (name, runtime.name) == ("gpt-2-70m", "processors") else every), runtime.name


def test_the_report_says_which_prompts_were_compared() -> None:
    given = asked(lengths=(33, 65), padded=(33,))
    (measure,) = given.measures(answers(given), WHOLE)["cache"]
    assert measure.detail.startswith("prompts of 33, 33+16, 65 tokens, 3 tokens after each; largest in ")


@pytest.mark.parametrize(
    "table",
    [
        {"lengths": (CONTEXT - GIVEN + 1,)},
        {"lengths": (33,), "padded": (65,)},
        {"fewer": (Fewer("optimum", "why", longest=32),)},
        {"lengths": ()},
    ],
)
def test_prompts_that_cannot_be_are_refused(table: dict[str, Any]) -> None:
    with pytest.raises(RecipeError):
        asked(**table)


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 5), st.booleans())
def test_an_error_is_at_least_what_the_stated_logits_show(seed: int, size: float, drop: bool) -> None:
    """Moving one of the likeliest tokens is seen whole, also where the token falls out of what is stated."""
    rng = np.random.default_rng(seed)
    wanted = rng.normal(size=(3, 50)).astype(np.float32)
    found = wanted.copy()
    row, rank = rng.integers(3), rng.integers(STATED)
    token = np.argsort(-wanted[row])[rank]
    found[row, token] += -100 if drop else np.float32(size)
    error = errors(top_of(found), wanted, best_of(wanted))
    assert error.argmax() == row
    least = np.sort(wanted[row])[-STATED - 1]
    assert error[row] == pytest.approx(wanted[row, token] - least if drop else size, abs=1e-4)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_logit_that_is_no_number_is_stated_first(value: float) -> None:
    logits = np.arange(20, dtype=np.float32)[None].copy()
    logits[0, 0] = value
    assert top_of(logits)[0][0][0] == 0
    assert errors(top_of(logits), np.arange(20, dtype=np.float32)[None], best_of(logits))[0] == np.inf


@pytest.mark.parametrize("answer", [[], [[[(0, 1.0)]]], [[[(-1, 0.0)] * STATED]]])
def test_too_few_positions_and_tokens_that_are_none_are_malformed(answer: Any) -> None:
    with pytest.raises((ValueError, IndexError)):
        asked(lengths=(33,), padded=()).measures(answer, WHOLE)


def test_what_is_left_out_is_said_with_its_reason() -> None:
    recipe = read_recipe(EMBEDDED)
    entries = (
        Fewer("optimum", "it is slow", longest=129, padded=33, variants=("q4", "q8")),
        Fewer("browser", "so is this", longest=200, texts=1, configurations=("plain",)),
        Fewer("optimum", "longer than any", longest=400),
        Fewer("browser", "minutes", longest=0, texts=0, configurations=("webgpu",), variants=("q4",)),
    )
    table = Runtimes(("optimum", "browser"), fewer=entries)
    targets = [Target(variant, Path()) for variant in ("fp32", "q4")]
    questions: Any = SimpleNamespace(lengths=asked(), groups=(None, None, None))
    said = {
        (entry.what, entry.reason)
        for runtime in planned.plan(recipe, [])
        for entry in planned._fewer(runtime, table, targets, questions)
    }
    assert said == {
        ("optimum: prompts of 65+32, 129+64, 257, 257+128, 297, 297+148 tokens to q4", "it is slow"),
        ("browser; plain: prompts of 257, 257+128, 297, 297+148 tokens; 2 of 3 texts", "so is this"),
        ("browser, webgpu: q4", "minutes"),
        ("browser, webgpu, subgroups hidden: q4", "minutes"),
    }
    assert table.extent("optimum", "q4", "any") == Extent(129, 33)
    assert table.extent("optimum", "fp32", "any").longest == 400
    assert table.extent("browser", "fp32", "plain, 1 thread") == Extent(200, texts=1)
    assert table.extent("browser", "fp32", "asyncify, 1 thread") == WHOLE
