"""The report on results that are made up here."""

from __future__ import annotations

import json
from dataclasses import replace

from benchmarks.report import document, markdown
from benchmarks.results import Absent, EngineEntry, FileFidelity, Results, Speed
from benchmarks.scenario import SCENARIOS
from benchmarks.schedule import spread


def entry(key: str, size: int, kld: float, rate: float) -> EngineEntry:
    engine, name = key.split("/")
    speeds = {s.name: Speed(spread([rate]), 0.95) for s in SCENARIOS}
    return EngineEntry(
        engine, name, size, size, 0.1, 2**20, 2**21, speeds, FileFidelity(kld, kld / 10, 9 * kld, 0.99, 1000)
    )


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
    about = {"processor": "a machine's, restricted to AVX2", "instruction_sets": ["AVX2", "AVX"]}
    return Results("x", 1000, 3, 2, SCENARIOS, spread([3e10]), spread([2e11]), entries, (), 0, about)


def test_the_report_shows_what_is_absent() -> None:
    absent = (Absent("ctranslate2/float32", "not installed: ctranslate2", "make peers"),)
    text = markdown(replace(made_up(), absent=absent))
    assert "| ctranslate2/float32 | not installed: ctranslate2 |" in " ".join(text.split())
    assert all(line.count("|") > 2 for line in text.splitlines() if line.startswith("|"))


def test_the_report_says_which_processor_the_figures_are_of() -> None:
    assert "Processor: a machine's, restricted to AVX2 (AVX2, AVX)." in markdown(made_up())


def test_results_that_are_not_finite_are_null_in_json() -> None:
    entries = (entry("ours/fp32", 4000, float("inf"), 1.0),)
    made = document(replace(made_up(), entries=entries))
    text = json.dumps(made, allow_nan=False)
    assert json.loads(text)["entries"][0]["fidelity"]["mean_kld"] is None
