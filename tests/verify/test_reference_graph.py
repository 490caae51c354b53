"""One ONNX file against another: the same checks, no PyTorch; and a report that says so and is never published."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from pipeline.canonical import file_digest, read_json
from pipeline.command import run
from pipeline.errors import InputError
from pipeline.recipe.recipe import Verify
from pipeline.variants import model_file
from tests.conftest import ROOT
from tests.support.brief_recipe import brief_recipe
from verify.__main__ import main
from verify.candidate.session import positions_of
from verify.check import NotApplicable
from verify.reference.graph import GraphProcess, GraphReference
from verify.reference.model import Reference
from verify.scoring.decoding import ReferenceDecoder, beam_search

SOURCE = ROOT / "recipes" / "embedded"
CHECKS = ("structure", "tokenizer", "weights", "logits", "cache", "generation", "divergence", "twin")


@pytest.fixture(scope="module")
def fp32(build: Path) -> Path:
    return build / "embedded" / "fp32" / model_file("fp32")


@pytest.fixture(scope="module")
def graph(fp32: Path) -> Iterator[GraphReference]:
    with GraphProcess(fp32, Verify("", ())) as process:
        yield GraphReference(process, SOURCE, ())


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return brief_recipe(tmp_path, checks=CHECKS)


def judge(recipe: Path, reference: Path, candidate: Path, *arguments: object) -> int:
    home = recipe.parent / "build"
    options = ["--build", home, "--variant", "fp16", "--reference", reference, "--candidate", candidate, *arguments]
    return run(main, [*map(str, (recipe, *options))])


def test_it_answers_as_the_checkpoint_does(graph: GraphReference) -> None:
    """Within the rounding of float32: passes with and without a cache, padded generation, beam search."""
    torch = Reference(SOURCE, allow_pickle=False)
    assert graph.dimensions == torch.dimensions
    assert (graph.end, graph.landmarks) == (torch.end, torch.landmarks)
    ids = np.asarray([[torch.end, 5, 6, 7], [9, 8, 7, 6]], np.int64)
    mask = np.asarray([[0, 1, 1, 1], [1, 1, 1, 1]], np.int64)
    positions = positions_of(mask)
    ours, theirs = (each.forward(ids, mask, positions) for each in (graph, torch))
    np.testing.assert_allclose(ours.logits[mask == 1], theirs.logits[mask == 1], atol=1e-4)
    assert ours.present().keys() == theirs.present().keys()
    np.testing.assert_allclose(ours.present()["0.key"][1], theirs.present()["0.key"][1], atol=1e-4)
    last = graph.forward(
        ids[:, 3:], mask, positions[:, 3:], graph.forward(ids[:, :3], mask[:, :3], positions[:, :3]).cache
    )
    np.testing.assert_allclose(last.logits[:, 0], ours.logits[:, 3], atol=1e-4)
    np.testing.assert_array_equal(graph.forward(ids, mask, positions, keep=2).logits.shape[1], 2)
    for found, wanted in zip(graph.greedy(ids, mask, 8), torch.greedy(ids, mask, 8), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-4)
    searches = [beam_search(ReferenceDecoder(r), ids[1], beams=3, new_tokens=5, ends=r.ends) for r in (graph, torch)]
    assert searches[0].tokens == searches[1].tokens
    with pytest.raises(NotApplicable, match="no PyTorch modules"):
        _ = graph.model


def test_a_sound_file_passes_and_the_report_says_what_it_was_held_against(
    build: Path, fp32: Path, recipe: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fp16 = build / "embedded" / "fp16" / model_file("fp16")
    assert judge(recipe, fp32, fp16) == 0, capfd.readouterr().err
    error = capfd.readouterr().err
    assert "ONNX against the ONNX file model.onnx" in error
    home = recipe.parent / "build" / "embedded" / "candidate-report"
    report = read_json(home / "report.json")
    assert report["source"] == {"origin": "onnx", "file": "model.onnx", "digest": file_digest(fp32)}
    assert not report["complete"]
    assert {result["check"] for result in report["results"]} == {*CHECKS} - {"weights", "twin"}
    reasons = {entry["what"]: entry["reason"] for entry in report["not_run"]}
    assert reasons["the reference itself"] == "model.onnx was not held against PyTorch"
    assert reasons["weights"] == reasons["twin"]
    assert "not applicable: the reference is an ONNX file" in reasons["weights"]
    for name in ("report.html", "report.md", "report.xml"):
        assert "passed for what was judged; not judged: the reference itself" in (home / name).read_text()
    page = (home / "report.html").read_text()
    assert file_digest(fp32) in page
    assert "ONNX against PyTorch" not in page


def test_a_planted_fault_fails_and_the_candidate_s_own_files_judge_nothing(
    fp32: Path, recipe: Path, tmp_path: Path
) -> None:
    model = onnx.load(fp32)
    weight = next(t for t in model.graph.initializer if t.name.endswith("h.1.mlp.c_fc.weight"))
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.1), weight.name))
    faulty = tmp_path / "faulty" / "model.onnx"
    faulty.parent.mkdir()
    onnx.save(model, faulty)
    bare = Path(shutil.copyfile(fp32, tmp_path / "bare.onnx"))
    assert judge(recipe, bare, faulty) == 3, "neither has a config beside it"
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copyfile(fp32.parent.parent / name, faulty.parent / name)
    assert judge(recipe, bare, faulty) == 1
    report = read_json(recipe.parent / "build" / "embedded" / "candidate-report" / "report.json")
    bad = {result["check"] for result in report["results"] if not result["passed"]}
    assert {"logits", "cache", "divergence"} <= bad
    reasons = {entry["what"]: entry["reason"] for entry in report["not_run"]}
    assert reasons["tokenizer"] == "the files beside the candidate are those that the reference is read with"


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("n_layer", 3, "layers, not the 3"),
        ("n_head", 1, "heads of keys and values, not the 1"),
        ("vocab_size", 5000, "entries in its vocabulary, not the 5000"),
    ],
)
def test_differing_sizes_are_refused_in_words(
    graph: GraphReference, tmp_path: Path, key: str, value: int, words: str
) -> None:
    other = Path(shutil.copytree(SOURCE, tmp_path / "other"))
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, key: value}))
    with pytest.raises(InputError, match=words) as refusal:
        GraphReference(graph._process, other, ())
    assert "other/config.json states" in refusal.value.what


def test_another_model_s_file_is_refused(graph: GraphReference, fp32: Path, tmp_path: Path) -> None:
    model = onnx.load(fp32)
    model.graph.output[0].type.tensor_type.shape.dim[-1].dim_value = 7
    onnx.save(model, tmp_path / "small.onnx")
    with pytest.raises(InputError, match=r"small.onnx has 7 entries in its vocabulary") as refusal:
        GraphReference(graph._process, SOURCE, (tmp_path / "small.onnx",))
    assert refusal.value.where == str(tmp_path / "small.onnx")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--reference", "x.onnx"], 2, "--reference without --candidate"),
        (["--reference", "x.onnx", "--candidate", "{fp32}", "--variant", "fp32", "--explain"], 2, "--explain with"),
        (
            ["--reference", "x.onnx", "--candidate", "{fp32}", "--variant", "fp32"],
            3,
            "name an ONNX file with --reference",
        ),
        (["--reference", "{recipe}", "--candidate", "{fp32}", "--variant", "fp32"], 3, "not an ONNX model"),
        (["--reference", "{fp32}", "--candidate", "{fp32}", "--variant", "fp32", "--source", "."], 3, "no config.json"),
    ],
)
def test_what_cannot_be_a_reference_is_refused(
    arguments: list[str], code: int, words: str, fp32: Path, recipe: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    filled = [argument.format(fp32=fp32, recipe=recipe) for argument in arguments]
    assert run(main, [str(recipe), "--build", str(recipe.parent / "build"), *filled]) == code
    assert words in capfd.readouterr().err
    assert not (recipe.parent / "build").exists()


def test_a_file_that_cannot_run_is_refused_and_says_why(fp32: Path, tmp_path: Path) -> None:
    model = onnx.load(fp32)
    model.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(model, tmp_path / "odd.onnx")
    ids = np.asarray([[5]], np.int64)
    with GraphProcess(tmp_path / "odd.onnx", Verify("", ())) as process:
        reference = GraphReference(process, SOURCE, ())
        with pytest.raises(InputError, match="NoSuchOperator"):
            reference.forward(ids, np.ones_like(ids), np.zeros_like(ids))
