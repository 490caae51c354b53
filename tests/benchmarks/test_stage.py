"""The command end to end on the embedded model, with this project's own engine."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from benchmarks import engine, onnx_session, scenario
from benchmarks.__main__ import main
from benchmarks.cost.derived import derive, without_browser
from benchmarks.cost.passes import graphs
from benchmarks.cost.usage import timed
from benchmarks.engines import ours
from pipeline.command import invocation, run
from pipeline.errors import BROKEN_INPUT, ArtifactError, InputError, RecipeError
from pipeline.recipe.recipe import read_recipe
from pipeline.variants import is_in_place, model_file
from tests.conftest import EMBEDDED, Stage


@pytest.mark.slow
def test_our_engine_is_measured_and_judged_and_absent_peers_are_named(build: Path, stage: Stage) -> None:
    only = ["ours/fp32", "ours/q8"] + ["llamacpp/Q8_0"] * (find_spec("llama_cpp") is None)
    result = stage("benchmarks", EMBEDDED, "--build", build, "--rounds", 2, "--only", *only)
    home = build / "embedded" / "benchmarks"
    assert result.stdout == f"{home / 'bench.md'}\n"
    found = json.loads((home / "bench.json").read_text())
    keys = [f"{entry['engine']}/{entry['name']}" for entry in found["entries"]]
    assert keys == ["ours/fp32", "ours/q8"]
    assert [gone["key"] for gone in found["absent"]] == only[2:]
    fp32, q8 = found["entries"]
    assert fp32["fidelity"]["mean_kld"] < 1e-9 < q8["fidelity"]["mean_kld"] < 1e-3
    assert q8["size"] < fp32["size"] < fp32["peak"] <= fp32["peak_batch"]
    for speed in fp32["speeds"].values():
        assert len(speed["tokens_per_s"]["samples"]) == 2
    assert 0 < fp32["speeds"]["decode-64"]["of_limit"] < 2
    for name in ("size-against-kld", "decode-against-kld", "decode"):
        assert (home / f"{name}.svg").stat().st_size > 1000
        assert (home / f"{name}.png").stat().st_size > 1000
    assert str(build) not in (home / "bench.json").read_text() + (home / "bench.md").read_text()
    kept = json.loads((home / "fidelity.json").read_text())
    assert sorted(entry["mean_kld"] for entry in kept.values()) == [e["fidelity"]["mean_kld"] for e in (fp32, q8)]
    marked = {key: {**entry, "tokens": 1} for key, entry in kept.items()}
    (home / "fidelity.json").write_text(json.dumps(marked))
    stage("benchmarks", EMBEDDED, "--build", build, "--rounds", 1, "--quick", "--only", *only[:2])
    quick = json.loads((home / "bench.json").read_text())
    assert [entry["fidelity"]["tokens"] for entry in quick["entries"]] == [1, 1], "judged again"
    assert list(quick["entries"][0]["speeds"]) == ["prefill-128", "decode-64"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--rounds", "0"], 2, "measure nothing"),
        (["--only", "lamacpp"], 2, "did you mean 'llamacpp'"),
        (["--text", "absent.txt"], 2, "--text absent.txt"),
        (["--text", EMBEDDED.with_name("embedded") / "model.safetensors", "--only", "ours"], 3, "reference failed"),
    ],
)
def test_a_wrong_command_line_is_refused(
    arguments: list[str | Path], code: int, message: str, build: Path, stage: Stage
) -> None:
    assert message in stage("benchmarks", EMBEDDED, "--build", build, *arguments, code=code).stderr


def test_without_a_source_the_command_that_makes_it_is_named(tmp_path: Path, stage: Stage) -> None:
    for name in ("benchmarks", "benchmarks.cost"):
        place = tmp_path / "a build"
        told = stage(name, EMBEDDED, "--build", place, code=3).stderr
        assert f"run: {invocation('convert', EMBEDDED, place)}\n" in told


def test_what_stages_cost_is_measured_and_the_build_is_left_as_it_is(build: Path, tmp_path: Path, stage: Stage) -> None:
    for name in ("source", "fp32"):
        shutil.copytree(build / "embedded" / name, tmp_path / "embedded" / name)
    result = stage("benchmarks.cost", EMBEDDED, "--build", tmp_path, "--only", "quantize", "verify", "--tokens", 512)
    home = tmp_path / "embedded"
    assert result.stdout == f"{home / 'benchmarks' / 'cost.md'}\n"
    made = json.loads((home / "benchmarks" / "cost.json").read_text())
    (found,) = made["runs"]["quantize"]
    assert found["processor_s"] > 0
    assert found["peak"] > 1e8
    assert "| quantize, all variants " in (home / "benchmarks" / "cost.md").read_text()
    verify, reference, candidates = (made["runs"][name][0]["wall_s"] for name in ("verify", "reference", "candidates"))
    assert made["ratios"]["verify_over_passes"] == pytest.approx(verify / (reference + candidates))
    assert {path.name for path in home.iterdir()} == {"source", "fp32", "benchmarks"}


def test_what_verify_is_held_against_runs_every_graph_that_is_built(build: Path) -> None:
    home = build / "embedded"
    there = set(home.glob("*/onnx/*.onnx"))
    assert any(is_in_place(path.stem) for path in there)
    assert set(graphs(read_recipe(EMBEDDED), home)) == there


def test_a_damaged_file_of_ours_is_told_with_the_command_that_makes_it(build: Path, tmp_path: Path) -> None:
    shutil.copytree(build / "embedded" / "source", tmp_path / "embedded" / "source")
    shutil.copytree(build / "embedded" / "q8", tmp_path / "embedded" / "q8")
    (tmp_path / "embedded" / "q8" / "config.json").write_text("{}")
    site = engine.open_site(read_recipe(EMBEDDED), tmp_path)
    with pytest.raises(ArtifactError) as refusal:
        ours.place(site, "q8")
    assert refusal.value.hint == f"run: {invocation('quantize', EMBEDDED, tmp_path)}"


def test_a_context_too_short_for_any_scenario_is_refused(
    build: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(scenario, "SCENARIOS", (scenario.Scenario("prefill-512", "prefill", 512),))
    assert run(main, [str(EMBEDDED), "--build", str(build)]) == BROKEN_INPUT
    assert "a context of 256 is too short" in capfd.readouterr().err


def test_the_profiler_refuses_what_is_no_decoder(stage: Stage) -> None:
    assert "cannot run it" in stage("benchmarks.operators", EMBEDDED, code=3).stderr


@pytest.mark.parametrize("name", ["fp32", "fp32_in_place"])
def test_a_session_decodes_what_its_full_pass_says(build: Path, name: str) -> None:
    path = build / "embedded" / "fp32" / model_file(name)
    runner = onnx_session.load(path, name, 1)
    assert isinstance(runner, onnx_session.OnnxRunner)
    ids = np.arange(20, 40)
    full = runner.logits(ids)
    _, cache = runner._run(ids[None, :-1], 0, runner._empty(1, 20), every=False)
    logits, _ = runner._run(ids[None, -1:], 19, cache, every=False)
    np.testing.assert_allclose(logits.numpy()[0, -1], full[-1], atol=1e-4)
    assert logits.shape() == [1, 1, full.shape[-1]]
    only, _ = runner._run(np.stack([ids, ids]), 0, runner._empty(2, 20), every=False)
    np.testing.assert_allclose(only.numpy()[1, -1], full[-1], atol=1e-4)
    assert only.shape()[1] == (1 if runner._keep_one else len(ids))
    assert runner.decode(ids, 3, 2) > 0
    assert runner.prefill(ids[None], every=True) > 0
    runner.rest()


def test_a_derived_recipe_judges_divergence_alone_over_as_much_text_as_asked_for(tmp_path: Path) -> None:
    recipe = read_recipe(EMBEDDED)
    made = read_recipe(derive(recipe, tmp_path, chunk=128, chunks=500, expect=False))
    assert made.verify.checks == ("divergence",)
    assert made.verify.settings["divergence"] == {"chunk": 128, "chunks": 500}
    assert made.text_path.stat().st_size > 8 * 128 * 500
    assert (made.variants, made.name) == (recipe.variants, recipe.name)
    assert made.source.expect.layers is None
    assert read_recipe(derive(recipe, tmp_path, chunk=128, chunks=5)).source.expect == recipe.source.expect


@pytest.mark.parametrize("path", [EMBEDDED, EMBEDDED.with_name("gpt-2-70m.toml")], ids=lambda path: path.stem)
def test_what_a_recipe_has_built_is_what_its_derived_recipe_asks_for(path: Path, tmp_path: Path) -> None:
    recipe = read_recipe(path)
    for derived in (derive(recipe, tmp_path, chunk=128, chunks=5), without_browser(recipe, tmp_path)):
        made = read_recipe(derived)
        assert (made.source_digest, made.model_digest) == (recipe.source_digest, recipe.model_digest)
        assert all(made.variant_digest(name) == recipe.variant_digest(name) for name in recipe.variants)
    runtimes, whole = made.verify.runtimes, recipe.verify.runtimes
    assert runtimes.run == tuple(name for name in whole.run if name != "browser") != whole.run
    assert runtimes.require == tuple(name for name in whole.require if not name.startswith("browser"))
    assert (made.verify.checks, made.text_path) == (recipe.verify.checks, recipe.text_path)


@pytest.mark.parametrize(("content", "words"), [(None, "cannot be read"), (b"\xff", "cannot be read"), (b"", "empty")])
def test_nothing_is_derived_without_a_text(content: bytes | None, words: str, tmp_path: Path) -> None:
    recipe = read_recipe(EMBEDDED)
    text = tmp_path / "own.txt"
    if content is not None:
        text.write_bytes(content)
    with pytest.raises(RecipeError, match=words):
        derive(replace(recipe, verify=replace(recipe.verify, text=str(text))), tmp_path, chunk=128, chunks=5)


def test_memory_is_that_of_the_largest_process_and_of_all_together(tmp_path: Path) -> None:
    held = [sys.executable, "-c", "import time; data = b'x' * 100_000_000; time.sleep(2)"]
    program = f"import subprocess; two = [subprocess.Popen({held}) for _ in '12']; [one.wait() for one in two]"
    found = timed([sys.executable, "-c", program], tmp_path / "log.txt")
    assert found.peak > 1e8  # a child's begins with its parent's, which here has loaded torch
    assert 2e8 < found.together < 4e8
    assert 2 < found.wall_s < 60
    assert 0 < found.processor_s < found.wall_s
    with pytest.raises(InputError, match="exit code 3"):
        timed([sys.executable, "-c", "raise SystemExit(3)"], tmp_path / "log.txt")


def test_a_pass_is_shown_by_operator(build: Path, stage: Stage) -> None:
    files = [build / "embedded" / name / model_file(name) for name in ("fp32", "q8")]
    found = stage("benchmarks.operators", *files, "--past", 3, "--tokens", 5, "--steps", 2).stdout
    rows = {cells[0]: cells[1:] for line in found.splitlines() if (cells := [c.strip() for c in line.split("|")[1:-1]])}
    assert rows["operator"] == ["fp32", "q8"]
    assert rows["MatMul"][0].endswith("µs, 31")  # in each layer four with weights and one of attention, and the head
    assert rows["Softmax"][1].endswith("µs, 6")
    assert "nothing would be measured" in stage("benchmarks.operators", *files, "--tokens", 0, code=2).stderr


def test_files_are_compared_with_the_first_on_each_text(build: Path, stage: Stage, tmp_path: Path) -> None:
    files = [build / "embedded" / name / model_file(name) for name in ("fp32", "fp16", "q8")]
    texts = [EMBEDDED.parent / "text" / name for name in ("inaugural_heldout.txt", "inaugural_train.txt")]
    asked = [*files, "--text", *texts, "--chunk", 64]
    found = stage("benchmarks.divergence", *asked, "--chunks", 2).stdout.splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in found]
    assert rows[0] == ["file", "bytes", *(f"{text.name}: mean, 99.9 %" for text in texts)]
    assert [int(row[1].replace(",", "")) for row in rows[2:]] == [path.stat().st_size for path in files[1:]]
    (fp16, _), (q8, other) = ([float(cell.split(",")[0]) for cell in row[2:]] for row in rows[2:])
    assert 0 <= fp16 < 1e-9 < q8 != other
    (short := tmp_path / "short.txt").write_text("A word")
    refused = stage("benchmarks.divergence", *files, "--text", short, code=3).stderr
    assert "a chunk is 512" in refused
    assert "nothing would be compared" in stage("benchmarks.divergence", files[0], "--text", texts[0], code=2).stderr


def test_files_are_timed_beside_the_first(build: Path, stage: Stage) -> None:
    files = [build / "embedded" / name / model_file(name) for name in ("fp32", "q8")]
    found = stage("benchmarks.files", *files, "--rounds", 1, "--context", 256).stdout.splitlines()
    assert [line.split("|")[1].strip() for line in found[2:]] == ["decode after 64", "prefill of 128"]
    ratio = float(found[2].split("|")[3].split()[0])
    assert 0 < ratio < 100
    assert "nothing would be compared" in stage("benchmarks.files", files[0], code=2).stderr
    assert "no pass is so short" in stage("benchmarks.files", *files, "--context", 8, code=2).stderr
    other = build / "embedded" / "source" / "config.json"
    assert "onnxruntime cannot run it" in stage("benchmarks.files", files[0], other, "--context", 256, code=3).stderr
