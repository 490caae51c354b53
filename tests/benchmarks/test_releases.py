"""Files by releases: judging and the page on made-up answers; one release of onnxruntime installed and run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.engine import open_site
from benchmarks.releases import environment
from benchmarks.releases.catalogue import NODE, PYTHON, Release
from benchmarks.releases.judge import Allowed, QuestionResult, entry_of, forced, free
from benchmarks.releases.loaders import Loader, loaders
from benchmarks.releases.questions import Asked, Question
from benchmarks.releases.report import page
from benchmarks.releases.run import measure, readable
from model.releases import File, ReleasedFile, Table
from pipeline.errors import UnavailableError
from pipeline.recipe.recipe import read_recipe
from tests.conftest import EMBEDDED, Stage
from verify.interop.questions import Group
from verify.reference.corpus import Batch, left_padded
from verify.runtimes import transformersjs

PLACE = ("1.2.3", "python", "onnxruntime 1.2.3", "q8")
RANDOM = np.random.default_rng(0)


def batch() -> Batch:
    """Two rows of 3 and 5 tokens, padded on the left."""
    return left_padded([np.array([1, 2, 3]), np.array([4, 5, 6, 7, 8])], 0)


def asked() -> Asked:
    """One question of each kind: of the forced one, three positions are the prompt and two are steps."""
    logits = RANDOM.normal(size=(2, 5, 11)).astype(np.float32)
    tokens = np.array([[3, 1], [2, 2]])
    likely = RANDOM.normal(size=(2, 2, 11)).astype(np.float32)
    np.put_along_axis(likely, tokens[..., None], 5, axis=-1)
    group = Group(("a", "b"), batch(), tokens, likely, np.ones((2, 2), bool))
    return Asked((Question("batch of 3, 5", batch(), 3, logits),), (group,))


@pytest.mark.parametrize(
    ("row", "position", "change", "wrong"),
    [
        (0, 2, 0.0, ()),
        (0, 0, 9.0, ()),  # at padding: nobody reads it
        (0, 2, 0.09, ()),
        (0, 2, 0.11, ("batch of 3, 5",)),
        (1, 4, 0.11, ("batch of 3, 5, decoding",)),
        (1, 4, 0.06, ("batch of 3, 5, decoding",)),
        (1, 4, float("nan"), ("batch of 3, 5, decoding",)),
    ],
)
def test_every_real_position_is_compared(
    row: int, position: int, change: float, wrong: tuple[str, ...], tmp_path: Path
) -> None:
    questions = asked()
    logits = questions.cases[0].logits.copy()
    logits[row, position, 7] += change
    logits.tofile(tmp_path / "answers")
    found = entry_of(PLACE, list(forced(questions, tmp_path / "answers", Allowed(0.1, 0.05))))
    assert found.wrong == wrong
    assert found.verdict == ("differs" if wrong else "right")


def test_too_few_logits_are_no_answer(tmp_path: Path) -> None:
    np.zeros(7, np.float32).tofile(tmp_path / "answers")
    with pytest.raises(ValueError, match="7 logits, 110 were asked for"):
        list(forced(asked(), tmp_path / "answers", Allowed(1, 1)))


def texts(questions: Asked) -> dict[str, list[object]]:
    """Return what a perfect Transformers.js would answer about the only group."""
    group = questions.groups[0]
    ids = [row[mask == 1].tolist() for row, mask in zip(group.batch.ids, group.batch.mask, strict=True)]
    top = [[[(int(t), float(row[t])) for t in np.argsort(-row)[:3]] for row in rows] for rows in group.logits]
    return {"ids": [*ids], "tokens": [*group.tokens.tolist()], "top": [*top]}


def test_a_free_text_is_compared_up_to_the_first_token_that_differs() -> None:
    questions = asked()
    own = texts(questions)
    assert [answer.error for answer in free(questions, [own], 0.1)] == [0.0]
    cases: list[tuple[str, object, float]] = [
        ("ids", [[1, 2, 9], [4, 5, 6, 7, 8]], float("inf")),
        ("tokens", [[3], [2, 2]], float("inf")),
    ]
    for key, value, error in cases:
        assert [answer.error for answer in free(questions, [{**own, key: value}], 0.1)] == [error], key
    group = questions.groups[0]
    other = [[[3, 1], [2, 2]], [[3, 1], [9, 2]]]
    (answer,) = free(questions, [{**own, "tokens": other[1]}], 0.1)
    assert answer.error == pytest.approx((5 - float(group.logits[1, 0, 9])) / 2)
    shifted = json.loads(json.dumps(own))
    shifted["top"][0][1][0][1] += 0.3
    (answer,) = free(questions, [shifted], 0.1)
    assert not answer.right
    assert answer.error == pytest.approx(0.3)


def test_what_was_said_has_no_path_in_it() -> None:
    said = (
        "Load model from /a/b/model/onnx/model.onnx failed:/onnxruntime_src/onnxruntime/core/x.cc:92 "
        "onnxruntime::X<T>::X(const onnxruntime::OpKernelInfo&) [with T = float] nbits_ == 4 was false. Only 4b."
    )
    found = readable(said, Path("/a/b/model"))
    assert found == "Load model from onnx/model.onnx failed:nbits_ == 4 was false. Only 4b."
    assert "no message" in readable("10686432", Path("/a"))


def test_the_page_says_what_is_not_right_and_how_far() -> None:
    entries = [
        ReleasedFile("1", "python", "onnxruntime 1", "fp32", "refused", message="no"),
        entry_of(
            ("2", "python", "onnxruntime 2", "fp32"),
            [QuestionResult("9 tokens", 0.0, 0.1), QuestionResult("batch of 2", 3, 0.1)],
        ),
        entry_of(("3", "python", "onnxruntime 3", "fp32"), [QuestionResult("9 tokens", float("inf"), 0.1)]),
        entry_of(("4", "python", "onnxruntime 4", "fp32"), [QuestionResult("9 tokens", 0.05, 0.1)]),
        ReleasedFile("5.1", "node", "onnxruntime-node 1.2", "fp32", "refused", message="no"),
    ]
    found = Table(
        "x", "2026-01-01", "a command", "a processor", {"fp32": File("ab" * 32, ("ir 8",), "")}, tuple(entries)
    )
    text = page([found])
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    assert ["fp32", "4 or later", "none", "abababababab"] in rows
    assert ["1", "refused (1)"] in rows
    assert ["2", "batch off by 3, 0.1 allowed"] in rows
    assert ["3", "off by infinity, 0.1 allowed"] in rows
    assert ["4", "right"] in rows
    assert ["5.1 (1.2)", "refused (1)"] in rows
    assert "1. `no`" in text


def test_what_is_installed_is_kept_and_what_is_not_whole_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def install(release: Release, folder: Path) -> None:
        calls.append(release.version)
        (folder / "made").touch()
        if len(calls) == 1:
            raise UnavailableError("gone", where="there", hint="again")

    monkeypatch.setattr(environment, "_install_python", install)
    release = Release(PYTHON, "1.2.3", "2.0")
    with pytest.raises(UnavailableError):
        environment.prepare(release, tmp_path)
    for _ in range(2):
        assert (environment.prepare(release, tmp_path) / "made").is_file()
    assert len(calls) == 2
    environment.prepare(Release(PYTHON, "1.2.3", "2.1"), tmp_path)
    assert len(calls) == 3


def test_a_release_that_cannot_be_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(UnavailableError, match="cannot be installed") as error:
        environment.prepare(Release(PYTHON, "0.0.1", "2.2.6"), tmp_path)
    assert "onnxruntime 0.0.1" in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--keep", "--only", "onnxruntime"], "a part of the releases is no table to keep"),
        (["--only", "onnxruntime/1.22.9"], "did you mean"),
    ],
)
def test_what_cannot_be_is_refused(arguments: list[str], message: str, build: Path, stage: Stage) -> None:
    assert message in stage("benchmarks.releases", EMBEDDED, "--build", build, *arguments, code=2).stderr


@pytest.mark.slow
def test_one_release_installed_and_run(build: Path, tmp_path: Path, stage: Stage) -> None:
    only = ["--only", "onnxruntime/1.21.1", "--cache", tmp_path]
    result = stage("benchmarks.releases", EMBEDDED, "--build", build, *only)
    home = build / "embedded" / "benchmarks"
    assert result.stdout == f"{home / 'releases.md'}\n"
    found = json.loads((home / "releases.json").read_text())
    verdicts = {entry["variant"]: entry["verdict"] for entry in found["entries"]}
    assert {name for name, verdict in verdicts.items() if verdict == "right"} == {"fp32", "fp16", "int8"}
    assert {verdict for verdict in verdicts.values() if verdict != "right"} == {"refused"}
    assert "Only 4b quantization is supported" in (home / "releases.md").read_text()
    assert str(build) not in (home / "releases.json").read_text() + (home / "releases.md").read_text()


@pytest.mark.slow
def test_the_scripts_for_node_answer_with_what_is_installed_here(build: Path) -> None:
    if transformersjs.missing(transformersjs.Settings()) is not None and not os.environ.get("PIPELINE_CI"):
        pytest.skip("Node or its packages are missing: make setup")
    recipe = read_recipe(EMBEDDED)

    def chosen() -> Iterator[Loader]:
        yield from loaders(Release(NODE, "here", builds=("plain",)), transformersjs.HERE)

    found = measure(recipe, open_site(recipe, build), list(chosen()))
    assert [(entry.program, entry.verdict) for entry in found] == [
        (program, "right") for program in ("node", "wasm") for _ in recipe.files
    ]
