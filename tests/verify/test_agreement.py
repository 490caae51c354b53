"""Test what agrees and what does not, on made-up answers: each judge must pass the right and refuse the wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.recipe.recipe import read_recipe
from tests.conftest import EMBEDDED
from verify.check import Array, Measure
from verify.interop import run_runtimes
from verify.interop.comparator import Judgement
from verify.interop.lengths import Lengths
from verify.interop.likeliest import top_of
from verify.interop.questions import Group, Questions, noise, readable
from verify.reference.corpus import Batch
from verify.run_checks import Target
from verify.scoring.decoding import Beam, Sampling, active, draw

END, VOCABULARY, STEPS = 9, 10, 4
RNG = np.random.default_rng(0)


def group(rows: int) -> Group:
    logits = RNG.normal(size=(rows, STEPS, VOCABULARY)).astype(np.float32) * 3
    tokens = logits.argmax(axis=-1)
    ids = np.tile(np.arange(1, 4), (rows, 1))
    mask = np.ones_like(ids)
    if rows > 1:
        mask[0, 0] = 0
    return Group(tuple("abc"[:rows]), Batch(ids, mask, ids), tokens, logits, active(tokens, ()))


LENGTHS = Lengths(np.zeros(1), np.zeros((1, VOCABULARY)), np.zeros((1, 1)), ())  # has tests of its own


def questions() -> Questions:
    groups = (group(1), group(2))
    sampling, rows = Sampling(), 2
    sampled = group(rows)
    drawn = noise(7, STEPS, rows, VOCABULARY)
    tokens = np.array([[draw(sampled.logits[r, s], drawn[s, r], sampling) for s in range(STEPS)] for r in range(rows)])
    return Questions(
        groups=groups,
        batch=groups[1].batch,
        whole=RNG.normal(size=(2, 3, VOCABULARY)).astype(np.float32),
        sampled=replace(sampled, tokens=tokens, active=active(tokens, ())),
        sampling=sampling,
        seed=7,
        beams=(Beam([1, 2], -0.5, 0.01),),
        string_ids=([1, 2], [3]),
        ends=(),
        new_tokens=STEPS,
        strings=("ab", "\ud800"),
        lengths=LENGTHS,
    )


NOBODY: Any = None  # no answer here is looked up with the reference
ASKED = questions()


def texts(error: float = 0.0) -> list[dict[str, Any]]:
    """Return what a runtime answers whose logits err by `error` everywhere: the same tokens."""
    return [
        {
            "ids": [row[mask == 1].tolist() for row, mask in zip(g.batch.ids, g.batch.mask, strict=True)],
            "tokens": g.tokens.tolist(),
            "top": [top_of(row + np.float32(error), 3) for row in g.logits],
        }
        for g in ASKED.groups
    ]


def figures(part: str, answer: Any, error: float = 0.1, unreadable: str | None = None) -> dict[str, Measure]:
    found = Judgement(ASKED, NOBODY, error, unreadable).judge(part, answer)
    return {measure.name: measure for measures in found.values() for measure in measures}


def test_the_same_answer_agrees() -> None:
    measures = figures("texts", texts(0.05))
    assert measures["max_abs"].value == pytest.approx(0.05, abs=1e-5)
    assert [measures[name].value for name in ("prompts", "greedy_mismatch", "greedy_near_ties")] == [0, 0, 0]
    assert (measures["greedy_mismatch"].compared, measures["max_abs"].compared) == (3 * STEPS, 3 * STEPS * 3)


@pytest.mark.parametrize(("error", "mismatch", "near"), [(1e-9, 1, 0.0), (100.0, 0, 1 / 10)])
def test_another_token_is_a_near_tie_only_within_the_tolerance(error: float, mismatch: int, near: float) -> None:
    answer = texts()
    answer[1]["tokens"][1][1] = int(ASKED.groups[1].logits[1, 1].argmin())
    answer[1]["tokens"][1][2] = -1  # after the first difference nothing is compared
    answer[1]["top"][1][2] = [[0, 1e9]]
    measures = figures("texts", answer, error)
    assert (measures["greedy_mismatch"].value, measures["greedy_near_ties"].value) == (mismatch, near)
    assert measures["greedy_mismatch"].compared == 3 * STEPS - 2
    assert measures["max_abs"].value < 1e-6


def test_a_text_that_stops_short_differs() -> None:
    answer = texts()
    answer[0]["tokens"][0].pop()
    assert figures("texts", answer, 100.0)["greedy_mismatch"].value == 1


def test_what_follows_the_end_token_is_not_compared() -> None:
    ended = active(np.array([[1, END, 3, END], [1, 2, 3, 4]]), [END])
    assert ended.tolist() == [[True, True, False, False], [True] * 4]


@pytest.mark.parametrize("logit", [None, float("inf")])
def test_logits_that_are_no_numbers_never_pass(logit: float | None) -> None:
    answer = texts()
    answer[0]["top"][0][0] = [[0, logit]] * 3
    assert figures("texts", answer)["max_abs"].value == float("inf")


def test_a_prompt_of_other_tokens_is_seen() -> None:
    answer = texts()
    answer[1]["ids"][0] = [5]
    assert figures("texts", answer)["prompts"].value == 1


@pytest.mark.parametrize(
    ("answer", "unreadable", "wrong", "compared"),
    [
        ([[1, 2], [3]], None, 0, 2),
        ([[1, 2], [4]], None, 1, 2),
        ([[1, 2], None], None, 1, 1),  # refused without an excuse
        ([[1, 2], None], "[\ud800-\udfff]", 0, 1),
        ([None, [3]], "[\ud800-\udfff]", 1, 1),  # refused what it could read
    ],
)
def test_strings(answer: list[list[int] | None], unreadable: str | None, wrong: int, compared: int) -> None:
    tokens = figures("strings", answer, unreadable=unreadable)["tokens"]
    assert (tokens.value, tokens.compared) == (wrong, compared)


def test_half_a_surrogate_pair_is_read_as_javascript_encodes_it() -> None:
    assert readable("a\ud800b\udc00 👍") == "a\ufffdb\ufffd 👍"


def test_sampling_is_scored_with_the_same_random_numbers() -> None:
    answer: dict[str, Any] = {"tokens": ASKED.sampled.tokens.tolist(), "logits": ASKED.sampled.logits}
    assert figures("sampling", answer)["sampling_mismatch"].value == 0
    answer["tokens"][0][0] = (answer["tokens"][0][0] + 1) % VOCABULARY
    assert figures("sampling", answer)["sampling_mismatch"].compared == 2 * STEPS - 3


def test_the_noise_is_what_torch_samples_with() -> None:
    probabilities = torch.softmax(torch.from_numpy(RNG.normal(size=(5, 3, VOCABULARY)).astype(np.float32)), dim=-1)
    torch.manual_seed(11)
    wanted = [torch.multinomial(step, 1)[:, 0].tolist() for step in probabilities]
    scores = np.log(probabilities.numpy()) + noise(11, 5, 3, VOCABULARY)
    assert scores.argmax(axis=-1).tolist() == wanted


def passes(scale: float) -> dict[str, Array]:
    whole = ASKED.whole.copy()
    whole[0, 0] = 99  # padding
    whole[1, 1, 2] += scale
    return {"whole": whole, "step": ASKED.whole[:, -1] + scale / 2}


def test_whole_passes_and_steps_are_compared_where_there_is_text() -> None:
    found = Judgement(ASKED, NOBODY, 0.1).judge("passes", passes(0.5))
    (whole,), (step,) = found["logits"], found["cache"]
    assert [whole.value, step.value] == pytest.approx([0.5, 0.25], abs=1e-5)
    assert whole.compared == 5 * VOCABULARY


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"texts": None},
        {"texts": [{}, {}]},
        {"texts": texts()[:1]},
        {"texts": texts(), "strings": None},
        {"texts": texts(), "strings": [[1]]},
    ],
)
def test_a_malformed_answer_is_a_failure_that_the_stage_reports(parts: dict[str, Any]) -> None:
    runtime: Any = SimpleNamespace(name="made", module=SimpleNamespace(PARTS=("texts", "strings")))
    recipe = read_recipe(EMBEDDED)
    target, judgement = Target("q8", Path("model.onnx")), Judgement(ASKED, NOBODY, 0.1)
    reply = run_runtimes._Reply({"any": parts})
    (result,) = run_runtimes._judged(recipe, runtime, target, reply, judgement)
    assert "its answer is malformed: " in str(result.failure)
    assert (result.measures, result.passed) == ((), False)
