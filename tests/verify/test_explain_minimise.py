"""Minimising an input: the result fails, is no larger, is the same every time, and costs a bounded number of runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import InputError
from verify.candidate.input import Input, read_table
from verify.explain.minimise import minimise


def batch(lengths: list[int], pieces: tuple[int, ...] | None = None) -> Input:
    """Left-padded rows whose ids are all different, so that each token can be told."""
    longest = max(lengths)
    mask = np.array([[0] * (longest - n) + [1] * n for n in lengths], np.int64)
    ids = np.arange(mask.size, dtype=np.int64).reshape(mask.shape) + 1
    return Input(ids * mask, mask, pieces or (longest,))


def holds(token: int) -> Callable[[Input], bool]:
    return lambda trial: bool((trial.ids == token).any())


@given(st.lists(st.integers(1, 12), min_size=1, max_size=5), st.data())
def test_the_one_token_that_fails_is_all_that_stays(lengths: list[int], data: st.DataObject) -> None:
    start = batch(lengths)
    token = data.draw(st.sampled_from(sorted(set(start.ids[start.mask == 1].tolist()))))
    found, runs = minimise(start, holds(token))
    assert found.ids.tolist() == [[token]]
    assert found.pieces == (1,)
    assert runs <= 80


@given(st.integers(2, 40), st.data())
def test_a_fault_that_needs_a_past_keeps_two_calls(length: int, data: st.DataObject) -> None:
    start = batch([length], (1,) * length)
    least = data.draw(st.integers(1, length - 1))

    def fails(trial: Input) -> bool:
        return len(trial.pieces) > 1 and trial.ids.shape[1] - trial.pieces[-1] >= least

    found, _ = minimise(start, fails)
    assert (found.ids.shape, found.pieces) == ((1, least + 1), (least, 1))


def test_two_rows_that_fail_together_stay_together() -> None:
    start = batch([3, 5, 2, 4])
    tokens = {int(start.ids[1, -1]), int(start.ids[3, -1])}
    found, _ = minimise(start, lambda trial: tokens <= set(trial.ids.ravel().tolist()))
    assert sorted(found.ids.ravel().tolist()) == sorted(tokens)


@given(st.integers(0, 2**32), st.integers(0, 12))
def test_any_predicate_gives_a_failing_input_within_the_budget(seed: int, budget: int) -> None:
    start = batch([9, 4, 7], (4, 3, 2))
    runs = []

    def fails(trial: Input) -> bool:
        runs.append(trial)
        assert trial.ids.shape == trial.mask.shape == (len(trial.ids), sum(trial.pieces))
        assert trial.mask.any(axis=1).all(), "a row of nothing but padding"
        return trial.key == start.key or bool(np.random.default_rng([seed, *trial.size]).integers(2))

    found, count = minimise(start, fails, budget=budget)
    assert found.key == start.key or fails(found)
    assert count <= budget
    again, _ = minimise(start, fails, budget=budget)
    assert again.key == found.key


@pytest.mark.parametrize(
    "table",
    [
        {},
        {"ids": [[1]], "mask": [[1, 1]], "pieces": [1]},
        {"ids": [[1, 2]], "mask": [[1, 1]], "pieces": [3, -1]},
        {"ids": [[1], [2, 3]], "mask": [[1]], "pieces": [1]},
        {"ids": [["x"]], "mask": [[1]], "pieces": [1]},
        {"ids": [[1]], "mask": [[1]], "pieces": []},
        {"ids": [[1]], "mask": [[1]], "pieces": [1], "positions": [[1, 2]]},
    ],
)
def test_a_table_that_is_no_input_is_refused(table: object) -> None:
    with pytest.raises(InputError):
        Input.of(table, Path("x"))


def test_an_input_survives_its_table(tmp_path: Path) -> None:
    start = batch([3, 5], (2, 3))
    path = tmp_path / "input.json"
    path.write_text(json.dumps(start.table()))
    assert Input.of(read_table(path), path).key == start.key
    moved = replace(start, places=start.positions + 3)
    path.write_text(json.dumps(moved.table()))
    again = Input.of(read_table(path), path)
    assert again.key == moved.key != start.key
    assert again.rows([0]).between(0, 2).positions.tolist() == [[3, 4]]
    path.write_bytes(b"\xff\xfe{")
    with pytest.raises(InputError):
        read_table(path)
