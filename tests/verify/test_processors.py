"""Emulated processors: what runs there says what the reference says; what is wrong or dies is told, by its set."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import RecipeError
from pipeline.recipe.runtimes import Extent, Runtimes
from tests.conftest import ROOT, Stage
from tests.support.asking import failures, files, levels, outcome, quick, shorter
from verify.emulation import emulator
from verify.emulation.emulator import Emulator, Wanted, present
from verify.faults.__main__ import sample
from verify.interop import planned, run_runtimes
from verify.interop.planned import NotRun
from verify.interop.run_runtimes import Outcome
from verify.interop.runtime import Bounds, Missing, RuntimeFailure, Task
from verify.interop.unrounded import Unrounded, measure
from verify.processor import HOST, instruction_sets
from verify.reference.corpus import Batch, Corpus
from verify.reference.model import Reference
from verify.runtimes import processors
from verify.runtimes.processors import Settings

ON_X86_64 = pytest.mark.skipif(HOST != "x86_64", reason="the Python that runs the tests is no x86-64 program")


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference(ROOT / "recipes" / "embedded", allow_pickle=False)


def configurations(found: Outcome) -> set[str]:
    return {result.level for result in found.results}


def require_arm64() -> None:
    if Emulator("arm64").missing() is not None and not os.environ.get("PIPELINE_CI"):
        pytest.skip("no Python for arm64 is set up: make arm64")


@ON_X86_64
@pytest.mark.slow
def test_two_instruction_sets_say_what_the_reference_says(reference: Reference, build: Path) -> None:
    found = outcome(shorter("processors"), reference, files(build, ["q4"]))
    assert (failures(found), found.not_run) == ([], [])
    places = [f"{name}, {level}" for name in ("AVX2", "SSE4.2") for level in ("disable_all", "enable_all")]
    assert configurations(found) == levels(*places)
    assert {result.runtime for result in found.results} == {"processors"}
    errors = {
        result.level: judged.measure.value
        for result in found.results
        for judged in result.measures
        if (result.check, judged.measure.name) == ("logits", "max_abs")
    }
    # Their kernels differ, or they would not be worth asking: these round activations to int8 in blocks of their own.
    assert errors["AVX2, enable_all"] != errors["SSE4.2, enable_all"]


@ON_X86_64
def test_a_variable_that_names_this_machines_processor_does_not_reach_another() -> None:
    """numpy's products take the kernels that it names, and end where the processor has not what they need."""
    emulated = Emulator("SSE4.2")
    if emulated.missing() is not None and not os.environ.get("PIPELINE_CI"):
        pytest.skip("qemu-x86_64 is not installed")
    given = {**os.environ, "OPENBLAS_CORETYPE": "Haswell"}
    found = subprocess.run([*emulated.command, "-c", "import numpy"], env=given, stderr=subprocess.DEVNULL, check=False)
    assert found.returncode == 0


@ON_X86_64
@pytest.mark.slow
def test_a_wrong_answer_and_a_process_that_dies_are_told_by_their_sets(
    reference: Reference, build: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights of four bits in the place of fp32's; and a processor on which Python's libraries do not even start."""
    monkeypatch.setitem(emulator.MODELS, "AVX2", ("x86_64", "qemu64"))
    target = replace(files(build, ["q4"])[0], variant="fp32")
    found = outcome(shorter("processors", levels=["all"], rows=2), reference, [target])
    assert configurations(found) == {"AVX2, enable_all", *levels("SSE4.2, enable_all")}
    (dead,) = [result for result in found.results if result.level == "AVX2, enable_all"]
    assert "its process died (exit code -4)" in str(dead.failure)
    wrong = [(result.check, one.measure) for result in found.results for one in result.measures if not one.passed]
    assert {f"{check}.{measure.name}" for check, measure in wrong} == {"logits.max_abs", "cache.max_abs"}
    details = [measure.detail for _, measure in wrong]
    assert any("2 of 4 rows" in detail for detail in details)
    assert any("prompts of 33, 33+16 tokens" in detail for detail in details)


@ON_X86_64
@pytest.mark.slow
def test_a_process_on_another_processor_than_it_is_to_be_gives_no_answer(
    reference: Reference, build: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(emulator.MODELS, "AVX2", emulator.MODELS["SSE4.2"])
    found = outcome(shorter("processors", sets=["AVX2"], levels=["all"]), reference, files(build, ["fp32"]))
    (failure,) = failures(found)
    assert "instruction_set='SSE4.2'" in failure
    assert "not Wanted(instruction_set='AVX2'" in failure


@pytest.mark.slow
def test_arm64_says_what_the_reference_says(reference: Reference, build: Path) -> None:
    require_arm64()
    recipe = shorter("processors", sets=["arm64"], levels=["all"], rows=2)
    found = outcome(recipe, reference, files(build, ["q8", "q4f16"]))
    assert failures(found) == []
    assert {result.variant for result in found.results} == {"q8"}
    (entry,) = found.not_run
    assert entry.what == "processors, arm64, enable_all: q4f16"
    assert "SIGILL" in entry.reason


@pytest.mark.slow
def test_what_is_said_of_arm64_without_float16_is_so(build: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a release of onnxruntime mends it, this fails, and the entry in processors.py can go."""
    require_arm64()
    monkeypatch.setattr(processors, "ILLEGAL", "")
    monkeypatch.setattr(processors, "WITHOUT_FLOAT16", "none")
    (target,) = files(build, ["q4f16"])
    batch = {"ids": [[1, 2, 3]], "mask": [[1, 1, 1]]}
    repository = target.path.parent.parent
    extent = partial(Runtimes().extent, "processors", "q4f16")  # of the project: tests cannot be imported over there
    with processors.running(Settings(("arm64",)), Bounds(60, 8)) as ask:
        answers = ask(Task(repository, "q4f16", {"batch": batch, "lengths": [], "end": 0}, extent))
    assert isinstance(answers["arm64, disable_all"], RuntimeFailure)
    assert "exit code -4" in str(answers["arm64, disable_all"])  # SIGILL


def test_what_is_not_installed_is_not_run_each_by_its_command(
    reference: Reference, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    recipe = shorter("processors", sets=["SSE4.2", "arm64"])
    corpus = Corpus(recipe.text_path, reference.tokenizer, 0)

    def found() -> list[NotRun]:
        runtimes = planned.plan(recipe, ["fp32"])
        return run_runtimes.examine(recipe, runtimes, reference, corpus, []).not_run

    monkeypatch.setattr(emulator, "ARM64", tmp_path)
    if HOST == "x86_64" and shutil.which("qemu-x86_64") is not None:
        reason = "a Python for arm64 with onnxruntime is not installed: make arm64"
        places = [f"processors, arm64, {level}" for level in ("disable_all", "enable_all")]
        assert found() == [NotRun(place, reason, required=True) for place in places]
    monkeypatch.setenv(emulator.VARIABLE, "no-such-qemu")
    (entry,) = found()
    assert (entry.what, entry.required) == ("processors", True)
    assert "apt-get install qemu-user" in entry.reason
    with pytest.raises(RecipeError, match="no-such-qemu-x86_64 is not installed"):
        present("SSE4.2")


def test_no_python_for_x86_64_is_had_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "qemu-x86_64").touch(mode=0o755)
    monkeypatch.setenv(emulator.VARIABLE, str(tmp_path / "qemu"))
    monkeypatch.setattr(emulator, "HOST", "aarch64")
    assert Emulator("AVX2").missing() == Missing("a Python for x86_64", "judge on such a machine")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (Settings(sets=("AVX3",)), "no instruction set 'AVX3'"),
        (Settings(sets=()), "nothing to run"),
        (Settings(levels=()), "nothing to run"),
        (Settings(levels=("most",)), "no level 'most'"),
        (Settings(rows=0), "0 rows"),
        (Settings(rows=5), "5 rows"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: Settings, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        settings.check("here")


def test_a_processor_that_nobody_emulates_is_refused() -> None:
    with pytest.raises(RecipeError, match="no instruction set 'AVX512'"):
        present("AVX512")


@given(st.integers(1, 200), st.integers(1, 200))
def test_a_sample_of_faults_is_spread_and_no_fault_is_in_it_twice(total: int, count: int) -> None:
    names = [str(number) for number in range(total)]
    chosen = [int(name) for name in sample(names, count)]
    assert len(chosen) == min(total, count)
    assert chosen == sorted(set(chosen))
    gaps = [later - earlier for earlier, later in pairwise([*chosen, total])]
    assert max(gaps) - min(gaps) <= 1
    assert sample(names, None) == names


def test_a_process_that_dies_leaves_the_reason_for_each_of_its_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for those that read it by name, as the questions without roundings do."""

    def dies(_task: Task) -> Any:
        raise RuntimeFailure("late")

    monkeypatch.setattr(processors, "unsupported", lambda *_: {})
    questions = {"lengths": [], "end": 0}
    task = Task(Path(), "fp32", questions, partial(Runtimes().extent, "processors", "fp32"))
    answers = processors._ask_all({"AVX2": dies}, task, Settings(("AVX2",)))
    own = Unrounded(None, RuntimeFailure("not this"))
    for place in ("AVX2, disable_all", "AVX2, enable_all"):
        with pytest.raises(RuntimeFailure, match="late"):
            measure(own, answers, place, Extent())


def test_a_process_says_what_it_is_not() -> None:
    own = Wanted(instruction_sets()[0], Emulator("AVX2").wanted.onnxruntime)
    assert own.differs() is None
    assert "make arm64" in str(replace(own, onnxruntime="0.1").differs())


def test_the_first_rows_of_a_batch_keep_no_padding_of_the_others() -> None:
    mask = np.array([[0, 0, 1, 1], [0, 0, 0, 1], [1, 1, 1, 1]])
    batch = Batch(np.arange(12).reshape(3, 4), mask, mask - 1)
    first = batch.first(2)
    assert first.ids.tolist() == [[2, 3], [6, 7]]
    assert first.mask.tolist() == [[1, 1], [0, 1]]
    assert batch.first(None).ids.shape == (3, 4)


@ON_X86_64
@pytest.mark.slow
def test_checks_run_on_another_processor_and_their_report_says_so(build: Path, stage: Stage, tmp_path: Path) -> None:
    if shutil.which("qemu-x86_64") is None and not os.environ.get("PIPELINE_CI"):
        pytest.skip("qemu-x86_64 is not installed")
    own = Path(shutil.copytree(build, tmp_path / "build"))
    arguments = ("verify", quick(tmp_path, webgpu=True), "--variant", "fp32", "--build", own, "--processor", "SSE4.2")
    result = stage(*arguments, "--format", "json")
    assert (own / "embedded" / "report-SSE4.2" / "report.json").read_text() == result.stdout
    assert '"processor": "SSE4.2, emulated: qemu-x86_64' in result.stdout
    assert '"complete": false' in result.stdout
    assert "--processor SSE4.2" in result.stdout
    assert not (own / "embedded" / "report").exists()
    assert not (own / "embedded" / "history.jsonl").exists()
    assert "report: unchanged" in stage(*arguments).stderr
    assert "--explain with --processor" in stage(*arguments, "--explain", code=2).stderr
