"""Targets on results that are made up here."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from benchmarks.report import document, markdown
from benchmarks.results import Absent, Entry, Fidelity, Results, Speed
from benchmarks.scenario import SCENARIOS
from benchmarks.schedule import spread
from benchmarks.targets import TARGETS, evaluate, peers_below_frontier


def entry(key: str, size: int, kld: float, rate: float) -> Entry:
    engine, name = key.split("/")
    speeds = {s.name: Speed(spread([rate]), 0.95) for s in SCENARIOS}
    return Entry(engine, name, size, size, 0.1, 2**20, 2**21, speeds, Fidelity(kld, kld / 10, 9 * kld, 0.99, 1000))


def made_up() -> Results:
    entries = (
        entry("ours/fp32", 4000, 1e-13, 160),
        entry("ours/fp16", 2000, 1e-8, 170),
        entry("ours/q8", 1050, 4e-5, 450),
        entry("ours/q4", 590, 5e-4, 600),
        entry("stock/fp32", 4000, 1e-13, 100),
        entry("stock/q8", 1000, 6e-4, 90),
        entry("llamacpp/f32", 4000, 1e-9, 100),
        entry("llamacpp/Q8_0", 1060, 5e-5, 240),
        entry("llamacpp/Q4_K_M", 600, 6e-4, 300),
        entry("llamacpp/Q4_0", 595, 1e-3, 320),
        entry("ctranslate2/int8", 1000, 6e-4, 100),
    )
    return Results("x", 1000, 3, 2, SCENARIOS, spread([3e10]), spread([2e11]), entries, (), 0)


def outcome(results: Results, name: str) -> tuple[float | None, bool | None]:
    found = next(found for found in evaluate(results) if found.name == name)
    return found.measured, found.reached


def test_every_target_of_good_results_is_reached_but_those_of_cost_which_were_not_measured() -> None:
    results = made_up()
    by_reached = {True: 0, False: 0, None: 0}
    for found in evaluate(results):
        by_reached[found.reached] += 1
    assert by_reached == {True: len(TARGETS) - 3, False: 0, None: 3}
    assert outcome(replace(results, cost={"convert_wall": 0.7}), "convert, wall over optimum-cli") == (0.7, False)


def test_targets_are_ratios_to_the_fastest_of_the_peers_named() -> None:
    measured, reached = outcome(made_up(), "decode q4, over the better of llama.cpp Q4_0 and Q4_K_M")
    assert (measured, reached) == (600 / 320, True)


@pytest.mark.parametrize("gone", ["llamacpp/Q4_0", "llamacpp/Q4_K_M", "ours/q4"])
def test_a_target_whose_engine_is_absent_is_not_measured(gone: str) -> None:
    results = made_up()
    less = replace(results, entries=tuple(e for e in results.entries if e.key != gone))
    assert outcome(less, "decode q4, over the better of llama.cpp Q4_0 and Q4_K_M") == (None, None)


def test_a_peer_below_our_frontier_counts_unless_a_file_of_ours_is_as_small_and_as_faithful() -> None:
    results = made_up()
    assert peers_below_frontier(results) == 0
    better = replace(results, entries=(*results.entries, entry("llamacpp/Q6_K", 700, 1e-4, 200)))
    assert peers_below_frontier(better) == 1
    answered = replace(better, entries=(*better.entries, entry("ours/int8", 700, 1e-4, 200)))
    assert peers_below_frontier(answered) == 0
    assert peers_below_frontier(replace(results, entries=results.entries[:4])) is None


def test_the_report_shows_what_is_absent_and_what_was_not_measured() -> None:
    absent = (Absent("ctranslate2/float32", "not installed: ctranslate2", "make peers"),)
    text = markdown(replace(made_up(), absent=absent))
    assert "| ctranslate2/float32 | not installed: ctranslate2 |" in " ".join(text.split())
    assert "not measured" in text
    assert all(line.count("|") > 2 for line in text.splitlines() if line.startswith("|"))


def test_results_that_are_not_finite_are_null_in_json() -> None:
    entries = (entry("ours/fp32", 4000, float("inf"), 1.0),)
    made = document(replace(made_up(), entries=entries))
    text = json.dumps(made, allow_nan=False)
    assert json.loads(text)["entries"][0]["fidelity"]["mean_kld"] is None
    assert len(made["targets"]) == len(TARGETS)
