"""Test what a runtime says of a graph without its roundings, beside onnxruntime's answers: the order of sums alone."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tqdm import tqdm

from pipeline.recipe.recipe import read_recipe
from pipeline.recipe.runtimes import Extent, Runtimes
from pipeline.variants import model_file
from tests.conftest import EMBEDDED
from verify.candidate.session import Candidate
from verify.interop import lengths, run_runtimes, unrounded
from verify.interop.lengths import GIVEN, Lengths
from verify.interop.likeliest import best_of
from verify.interop.runtime import Answers, Bounds, RuntimeFailure
from verify.interop.unrounded import Unrounded
from verify.run_checks import Target
from verify.runtimes import browser, genai, onnxruntime, optimum, processors, transformersjs

TEXT = np.random.default_rng(5).integers(5, 2000, 33 + GIVEN)
NOTHING = np.zeros((len(TEXT), 2000), np.float32)
ASKED = Lengths(TEXT, NOTHING, best_of(NOTHING), ((33,), (33, 16)))


def prepared(target: Target, directory: Path) -> Unrounded:
    repository = run_runtimes.assemble([target], directory / "model")
    return unrounded.prepare([target], repository, ASKED, Bounds(60, 4))[target.variant]


def answers(path: Path, questions: list[dict[str, Any]]) -> Answers:
    forward = partial(onnxruntime._forward, Candidate(path, "disable_all", threads=1))
    return {"any": {"lengths": [lengths.answer(question, 0, forward) for question in questions]}}


def test_runtimes_with_kernels_of_their_own_have_the_part() -> None:
    own = {module for module in (browser, processors) if unrounded.PART in module.PARTS}
    same = {module for module in (genai, onnxruntime, optimum, transformersjs) if unrounded.PART in module.PARTS}
    assert (len(own), same) == (2, set())


@pytest.mark.parametrize("variant", ["q8", "q4", "int8"])
def test_a_file_that_rounds_is_asked_about_without_and_differs_as_float32_does(
    build: Path, tmp_path: Path, variant: str
) -> None:
    target = Target(variant, build / "embedded" / variant / model_file(variant))
    own = prepared(target, tmp_path)
    assert (own.repository is None) == (variant == "int8")
    bound = read_recipe(EMBEDDED).limit(unrounded.CHECK, unrounded.FIGURE, variant).bound
    if own.repository is None:  # of what rounds nothing all answers are compared
        asked = answers(target.path, ASKED.asked())
        assert unrounded.measure(own, asked, "any", Extent()).value < bound
        return
    task = own.task(variant, {"groups": [1], "strings": [2], "batch": 3, "lengths": ASKED.asked()}, lambda _: Extent())
    assert task.questions == {"groups": [], "strings": [], "lengths": ASKED.asked()[:1]}
    plain = answers(own.repository / model_file(variant), task.questions["lengths"])
    assert unrounded.measure(own, plain, "any", Extent()).value < bound
    as_it_runs = answers(target.path, task.questions["lengths"])  # it rounds, which no bound of float32 stands
    assert unrounded.measure(own, as_it_runs, "any", Extent()).value > bound


def test_a_variant_and_its_graph_in_place_are_both_asked_without_roundings(build: Path, tmp_path: Path) -> None:
    graphs = [build / "embedded" / "q4" / model_file(name) for name in ("q4", "q4_in_place")]
    targets = [Target("q4", graphs[0]), Target("q4_in_place", graphs[1], data=(graphs[0],))]
    questions: Any = SimpleNamespace(lengths=ASKED)
    inquiry = run_runtimes._Inquiry(targets, questions, Runtimes(), tqdm(disable=True), tmp_path)
    bound = read_recipe(EMBEDDED).limit(unrounded.CHECK, unrounded.FIGURE, "q4").bound
    for name, own in inquiry._unrounded().items():
        assert own.repository is not None
        found = answers(own.repository / model_file(name), ASKED.asked()[:1])
        assert unrounded.measure(own, found, "any", Extent()).value < bound, name


def test_onnxruntimes_own_failure_is_the_runtimes(build: Path, tmp_path: Path) -> None:
    broken = tmp_path / "onnx" / "model_q4.onnx"
    broken.parent.mkdir()
    content = (build / "embedded" / "q4" / model_file("q4")).read_bytes()
    broken.write_bytes(content.replace(b"MatMulNBits", b"MatMulMBits"))
    own = prepared(Target("q4", broken), tmp_path)
    with pytest.raises(RuntimeFailure, match="MatMulMBits"):
        unrounded.measure(own, {"any": {}}, "any", Extent())
