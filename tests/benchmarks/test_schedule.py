"""Turns, medians, scenarios and speeds: the arithmetic of a benchmark."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.arithmetic import operations
from benchmarks.results import bytes_per_step, fidelity, speed
from benchmarks.scenario import SCENARIOS, Scenario, fitting
from benchmarks.schedule import spread, turns
from model.contract import Dimensions


def test_over_as_many_rounds_as_engines_each_takes_every_place_once() -> None:
    items = ("a", "b", "c", "d")
    orders = [turns(items, shift) for shift in range(len(items))]
    for place in range(len(items)):
        assert sorted(order[place] for order in orders) == list(items)
    assert turns(items, 5) == turns(items, 1)
    assert turns((), 3) == ()


def test_a_median_is_not_moved_by_one_slow_round() -> None:
    found = spread([3.0, 100.0, 2.0, 4.0, 3.5])
    assert (found.median, found.low, found.high) == (3.5, 2.0, 100.0)
    with pytest.raises(ValueError, match="no samples"):
        spread([])


def test_scenarios_beyond_the_context_are_left_out_and_single_rows_come_first() -> None:
    small = fitting(SCENARIOS, 256)
    assert {s.name for s in small} == {"prefill-128", "decode-64", "prefill-128-batch8", "decode-64-batch8"}
    assert len(fitting(SCENARIOS, 1024)) == len(SCENARIOS)
    batches = [s.batch for s in fitting(reversed(SCENARIOS), 1024)]
    assert batches == sorted(batches)


def test_the_share_of_the_limit_is_the_limit_s_time_over_the_time_taken() -> None:
    scenario = Scenario("decode", "decode", 64, batch=2, steps=4)
    read = bytes_per_step(scenario, read=1000, row=10)
    assert read == 1000 + 2 * (64 + 1.5) * 10
    bandwidth = 1000.0
    found = speed(scenario, [4 * 2 * read / bandwidth], read / bandwidth)  # every step takes twice the limit
    assert found.of_limit == pytest.approx(0.5)
    assert found.tokens_per_s.median == pytest.approx(8 / (8 * read / bandwidth))


def test_a_prefill_counts_every_row_and_repeat_and_its_limit_is_one_pass_s() -> None:
    found = speed(Scenario("prefill", "prefill", 128, batch=8, repeats=3), [2.0], 0.5)
    assert found.tokens_per_s.median == 128 * 8 * 3 / 2
    assert found.of_limit == pytest.approx(0.5 * 3 / 2)


def test_the_operations_of_a_prefill_are_those_of_its_weights_and_of_what_it_looks_at() -> None:
    tables = 100 * 8 + 16 * 8
    parameters = tables + 1000
    dims = Dimensions(
        2, hidden=8, heads=2, kv_heads=2, head_dim=4, context=16, vocabulary=100, parameters=parameters, tied=True
    )
    attention = 2 * 8 * 2 * (1 + 2 + 3)  # layers, width, keys and values, tokens that each of three may look at
    assert operations(Scenario("x", "prefill", 3), dims, tables) == 2 * (3 * 1000 + 100 * 8 + attention)
    everything = operations(Scenario("x", "prefill", 3, batch=5, every=True), dims, tables)
    assert everything == 5 * 2 * (3 * 1000 + 3 * 100 * 8 + attention)


def test_a_divergence_that_is_not_finite_is_infinite() -> None:
    good = {"kld": np.array([0.1, 0.3]), "same": np.array([1.0, 0.0])}
    assert fidelity([good]).mean_kld == pytest.approx(0.2)
    assert fidelity([good]).same_top == 0.5
    bad = {"kld": np.array([np.nan, 0.1]), "same": np.array([1.0, 1.0])}
    assert math.isinf(fidelity([good, bad]).mean_kld)
    assert fidelity([good, bad]).tokens == 4
