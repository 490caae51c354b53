"""The card's benchmarks on a tiny data set and the embedded model, and the arithmetic of their comparison."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.accuracy import adapter
from benchmarks.accuracy.compare import accuracy, agreement
from benchmarks.accuracy.run import require_numbers
from benchmarks.accuracy.scores import ItemScore, Scores, ScoreStore
from benchmarks.accuracy.suite import BENCHMARKS, choose, units
from pipeline.errors import InputError, RecipeError
from pipeline.variants import model_file
from tests.conftest import EMBEDDED, Stage
from verify.reference.model import Reference

QUESTIONS = ("Who wrote the law?", "What did the people say?", "Where is the union?", "Why is the peace long?")


def lines(path: Path, items: Sequence[Mapping[str, object]]) -> None:
    path.write_text("".join(f"{json.dumps(item)}\n" for item in items))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four items of every benchmark, two subjects of MMLU, in the forms of the real data."""
    home = tmp_path_factory.mktemp("data")
    four = ["the people", "the congress", "a nation", "peace"]
    subjects = ("anatomy", "astronomy")
    mmlu = [
        {"subject": subject, "question": question, "choices": four, "answer": number % 4}
        for subject in subjects
        for number, question in enumerate((*QUESTIONS, QUESTIONS[0]))
    ]
    lines(home / "mmlu_dev.jsonl", mmlu)
    lines(home / "mmlu_test.jsonl", [item for item in mmlu if item["question"] in QUESTIONS[1:3]])
    lines(home / "hellaswag.jsonl", [{"query": q, "choices": four, "gold": 1} for q in QUESTIONS])
    labels = {"text": four[:3], "label": ["A", "B", "C"]}
    lines(home / "arc_challenge_test.jsonl", [{"question": q, "choices": labels, "answerKey": "B"} for q in QUESTIONS])
    lines(home / "piqa.jsonl", [{"goal": q, "sol1": "by law", "sol2": "by force", "label": 0} for q in QUESTIONS])
    winogrande = {"sentence": "The people trust the congress since _ is just.", "option1": "people", "option2": "it"}
    lines(home / "winogrande.jsonl", [{**winogrande, "answer": str(1 + n % 2)} for n in range(4)])
    targets = {"choices": four[:3], "labels": [1, 0, 1]}
    first = {"choices": four[:2], "labels": [1, 0]}
    truthful = [{"question": q, "mc1_targets": first, "mc2_targets": targets} for q in QUESTIONS]
    lines(home / "truthfulqa.jsonl", truthful)
    return home


@pytest.mark.slow
def test_every_benchmark_is_scored_compared_and_not_scored_again(build: Path, data: Path, stage: Stage) -> None:
    arguments = ("benchmarks.accuracy", EMBEDDED, "--data", data, "--variant", "fp32", "q4", "--build", build)
    result = stage(*arguments)
    home = build / "embedded" / "benchmarks"
    assert result.stdout == f"{home / 'accuracy.md'}\n"
    found = json.loads((home / "accuracy.json").read_text())
    assert list(found["models"]) == ["reference", "fp32", "q4"]
    names = [benchmark.name for benchmark in BENCHMARKS]
    for entry in found["models"].values():
        assert list(entry["accuracy"]) == names
        assert all(one["items"] == 4 and 0 <= one["per_cent"] <= 100 for one in entry["accuracy"].values())
    fp32, q4 = (found["models"][name]["agreement"] for name in ("fp32", "q4"))
    assert list(fp32) == [*names, "all"]
    # MMLU 4 letters, HellaSwag 4, ARC 3, PIQA 2, WinoGrande 2, TruthfulQA 3 choices for each of 4 items
    assert fp32["all"]["requests"] == 4 * (4 + 4 + 3 + 2 + 2 + 3)
    assert (fp32["all"]["flips"], fp32["all"]["p_value"]) == (0, 1)
    assert fp32["all"]["max_difference"] < 1e-3 < q4["all"]["max_difference"] < 3
    text = (home / "accuracy.md").read_text()
    assert "| MMLU, 5-shot" in text
    assert "24.11" in text
    assert (home / "accuracy.svg").stat().st_size > 1000
    assert str(build) not in (home / "accuracy.json").read_text() + text
    (newest, *_) = sorted((home / "accuracy").glob("*.json"), key=lambda path: -path.stat().st_mtime)
    newest.unlink()  # as if the run had been ended before its last unit
    again = stage(*arguments)
    assert "fp32: 24 items, 0 of them to score" in again.stderr
    assert "q4: 24 items, 4 of them to score" in again.stderr
    assert json.loads((home / "accuracy.json").read_text())["models"]["q4"]["agreement"] == q4


def test_what_is_common_with_the_sequence_before_is_not_computed_again_and_changes_nothing(build: Path) -> None:
    reference = Reference(build / "embedded" / "source", allow_pickle=False)
    rng = np.random.default_rng(0)
    first = rng.integers(0, 2000, 60)
    second = np.concatenate([first[:40], rng.integers(0, 2000, 30)])
    sequences = [first, second, second[:50], rng.integers(0, 2000, 20), rng.integers(0, 2000, 20)]
    for make in (
        lambda: adapter.of_reference(reference),
        lambda: adapter.of_graph(build / "embedded" / "fp32" / model_file("fp32"), reference),
    ):
        kept = make()
        steps: list[int] = []
        step = kept._model.step
        object.__setattr__(
            kept._model, "step", lambda *a, step=step, steps=steps: (steps.append(a[0].size), step(*a))[1]
        )
        for ids in sequences:
            fresh = make()(torch.from_numpy(ids[None])).logits
            torch.testing.assert_close(kept(torch.from_numpy(ids[None])).logits, fresh, atol=2e-4, rtol=0)
        assert steps == [60, 30, 1, 20, 20]


def item(*logliks: float, right: bool) -> ItemScore:
    return ItemScore(logliks, right, float(right))


def test_differences_flips_and_mcnemar_by_hand() -> None:
    reference = [item(-1, -2, right=True)] * 6 + [item(-1, -2, right=False)] * 2
    variant = [item(-2.5, -2, right=False)] * 5 + [item(-1, -2, right=True)] + [item(-1, -2, right=False)] * 2
    found = agreement(reference, variant)
    assert (found.requests, found.flips, found.lost, found.won) == (16, 5, 5, 0)
    assert found.max_difference == 1.5
    assert found.mean_difference == pytest.approx(5 * 1.5 / 16)
    assert found.p_value == pytest.approx(2 / 2**5)
    assert agreement(reference, reference).p_value == 1
    with pytest.raises(ValueError, match="zip"):
        agreement(reference, variant[:-1])
    mean = accuracy(reference)
    assert (mean.items, mean.per_cent) == (8, 75)
    assert mean.error == pytest.approx(100 * np.sqrt(0.75 * 0.25 / 7))


def test_a_limit_takes_subjects_in_turn_and_the_digest_follows_the_items(data: Path) -> None:
    (mmlu,) = choose(["mmlu"])
    made = units(mmlu, data, 3)
    assert [(unit.name, unit.items) for unit in made] == [("mmlu_anatomy", 2), ("mmlu_astronomy", 1)]
    assert all(len(unit.splits["dev"]) == 5 for unit in made)
    assert made[0].digest == units(mmlu, data, None)[0].digest
    assert made[1].digest != units(mmlu, data, None)[1].digest


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read"),
        ("", "not JSON lines"),
        ("[1]\n", "not JSON lines"),
        ("{\n", "invalid JSON"),
        ('{"goal": 1}\n{}\n', "item 2 has other"),
    ],
)
def test_data_that_is_not_there_or_broken_is_refused(content: str | None, words: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "piqa.jsonl").write_text(content)
    with pytest.raises(InputError, match=words) as caught:
        units(choose(["piqa"])[0], tmp_path, None)
    assert "piqa.jsonl" in caught.value.where


@pytest.mark.slow
def test_data_of_another_form_is_refused(build: Path, tmp_path: Path, stage: Stage) -> None:
    lines(tmp_path / "piqa.jsonl", [{"a": 1}, {"a": 2}])
    options = ("--data", tmp_path, "--only", "piqa", "--variant", "q8")
    told = stage("benchmarks.accuracy", EMBEDDED, "--build", build, *options, code=3).stderr
    assert "the harness cannot read it: 'goal' is undefined\n  where: piqa.jsonl\n" in told


def test_log_likelihoods_that_are_no_numbers_are_refused(data: Path) -> None:
    unit = units(choose(["piqa"])[0], data, None)[0]
    require_numbers(Scores((item(-1.0, -0.1, right=True),), 1.0), unit, "q4", data)
    with pytest.raises(InputError, match=r"log-likelihoods of \w+ are not numbers"):
        require_numbers(Scores((item(-1.0, math.nan, right=True),), 1.0), unit, "q4", data)


def test_an_unknown_benchmark_is_refused() -> None:
    with pytest.raises(RecipeError, match="unknown benchmark 'mlu'") as caught:
        choose(["mlu"])
    assert "did you mean 'mmlu'" in caught.value.hint


def test_kept_scores_are_of_their_key_only(tmp_path: Path) -> None:
    kept, scores = ScoreStore(tmp_path), Scores((item(-1.0, -0.1, right=True),), 2.5)
    kept.put({"a": 1}, scores)
    assert kept.get({"a": 1}) == scores
    assert kept.get({"a": 2}) is None
    (path,) = tmp_path.iterdir()
    path.write_text(path.read_text().replace('"a":1', '"a":3'))
    with pytest.raises(InputError, match="holds scores of something else"):
        kept.get({"a": 1})
