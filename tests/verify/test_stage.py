"""The stage end to end on the embedded model: the report, its schema, its identity, and every way to refuse."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import jsonschema
import pytest

from benchmarks.cost.derived import without_browser
from pipeline.artifact.store import intact, open_artifact
from pipeline.canonical import canonical_json
from pipeline.recipe.recipe import read_recipe
from tests.conftest import EMBEDDED, ROOT, Stage
from tests.support.asking import quick
from verify.report import FILES, history

# The recipe does not require them, and they have tests of their own, as has the browser.
WITHOUT = {"QEMU": "no-such-emulator"}


@pytest.fixture
def own(build: Path, tmp_path: Path) -> Path:
    """A copy of the build directory that a test may change."""
    return Path(shutil.copytree(build, tmp_path / "build"))


@pytest.mark.slow
def test_all_variants_pass_and_the_report_is_the_same_every_time(own: Path, stage: Stage, tmp_path: Path) -> None:
    if shutil.which("node") is None and not os.environ.get("PIPELINE_CI"):
        pytest.skip("the recipe requires a runtime that needs Node")
    recipe = without_browser(read_recipe(EMBEDDED), tmp_path)
    # The check `logits` reads every length; of its runtimes each reads one below and one beyond a hundred tokens.
    fewer = "[verify.runtimes]\nlengths = [33, 129]\npadded = [33]\n"
    recipe.write_text(recipe.read_text().replace("[verify.runtimes]\n", fewer, 1))
    result = stage("verify", recipe, "--build", own, **WITHOUT)
    home = own / "embedded" / "report"
    assert result.stdout == f"{home}\n"
    assert "verdict: passed" in result.stderr
    report = json.loads((home / "report.json").read_text())
    schema = json.loads((ROOT / "verify" / "report" / "report.schema.json").read_text())
    jsonschema.Draft202012Validator(schema, format_checker=None).validate(report)
    assert [entry["variant"] for entry in report["candidates"]] == [
        "fp32", "fp32_in_place", "fp16", "q8", "int8", "uint8", "q4", "q4_in_place", "q4f16", "bnb4",
    ]  # fmt: skip
    assert all(m["compared"] > 0 for r in report["results"] for m in r["measures"])
    assert [entry["variant"] for entry in report["layers"]["variants"]] == [c["variant"] for c in report["candidates"]]
    modules = [row for entry in report["layers"]["variants"] for row in entry["modules"]]
    assert len(modules) == 10 * (1 + 2 * 6 + 2)
    assert all(row["reason"] is None and max(row["error"], row["own"]) < 0.2 for row in modules)
    assert str(own) not in "".join(path.read_text() for path in home.iterdir())
    assert not [line for line in report["notices"] if "bounds were derived for" in line]
    series = {name for result in report["results"] for name in result["series"]}
    assert series == {"by_position", "by_rank", "by_layer", "by_plan", "histogram", "quantiles", "near_ties", "texts"}
    assert {path.name for path in home.iterdir()} == {"manifest.json", *FILES.values()}
    before = open_artifact(home, made_by="x").digest
    page = stage("verify", recipe, "--build", own, "--format", "html", **WITHOUT)
    assert "report: unchanged" in page.stderr
    assert page.stdout == (home / "report.html").read_text()
    tables = stage("verify", recipe, "--build", own, "--tolerances", "1.5", **WITHOUT).stdout
    printed = tomllib.loads(tables)["tolerances"]
    assert printed.keys() == tomllib.loads(EMBEDDED.read_text())["tolerances"].keys()
    assert {result["runtime"] for result in report["results"]} == {"onnxruntime", "optimum", "transformersjs", "genai"}
    assert [(entry["what"], entry["required"]) for entry in report["not_run"]] == [("processors", False)]
    assert "report: unchanged" in stage("verify", recipe, "--build", own, **WITHOUT).stderr
    assert [run.report for run in history.read(home.parent / "history.jsonl")] == [before]
    shutil.rmtree(home)
    stage("verify", recipe, "--variant", "q4", "--build", own, **WITHOUT)
    again = json.loads((home / "report.json").read_text())
    assert again["results"] == [entry for entry in report["results"] if entry["variant"] in ("q4", "q4_in_place")]


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.5, 4, 7])
def test_a_killed_verification_leaves_no_half_report_and_no_process(own: Path, delay: float) -> None:
    command = [sys.executable, "-m", "verify", str(EMBEDDED), "--variant", "fp32", "--no-runtimes", "--build", str(own)]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(delay)
    workers = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
    child.send_signal(signal.SIGKILL)
    child.wait()
    report = own / "embedded" / "report"
    assert not report.exists() or intact(report) is not None  # finished just before, or not there at all
    deadline = time.monotonic() + 20
    while any(_running(worker) for worker in workers):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.1)


@pytest.mark.slow
def test_an_interrupted_verification_waits_for_no_runtime(own: Path, tmp_path: Path) -> None:
    """The program that stands for Node takes five minutes: it is ended at once, and so is the run."""
    recipe, node, begun = quick(tmp_path, webgpu=True), tmp_path / "node", tmp_path / "begun"
    node.write_text(f"#!/bin/sh\ntouch {begun}\nsleep 300\n")
    node.chmod(0o755)
    table = f'[verify.runtimes]\nrun = ["transformersjs"]\ntransformersjs = {{ node = "{node}" }}\n\n[tolerances]\n'
    recipe.write_text(recipe.read_text().replace("[tolerances]\n", table, 1))
    command = [sys.executable, "-m", "verify", str(recipe), "--variant", "fp32", "--build", str(own)]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not begun.exists():
        assert time.monotonic() < deadline, "the runtime was never asked"
        assert child.poll() is None
        time.sleep(0.1)
    child.send_signal(signal.SIGTERM)
    assert child.wait(timeout=30) == 130
    assert not (own / "embedded" / "report").exists()


def _running(process: str) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_variant_of_an_older_recipe_is_refused(own: Path, stage: Stage, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    text = EMBEDDED.read_text().replace('path = "embedded"', f'path = "{EMBEDDED.parent}/embedded"')
    recipe.write_text(text.replace("bits = 8\nblock = 32", "bits = 4\nblock = 32", 1))
    error = stage("verify", recipe, "--variant", "q8", "--build", own, code=3).stderr
    assert "made by another recipe than this one is now" in error


def test_one_variant_makes_no_complete_report_which_repeats_what_convert_warned_of(
    own: Path, stage: Stage, tmp_path: Path
) -> None:
    path = own / "embedded" / "q4" / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_bytes(
        canonical_json(manifest | {"facts": manifest["facts"] | {"warnings": ["it pads with -1"]}}) + b"\n"
    )
    recipe = quick(tmp_path, webgpu=True, runtimes=True)
    stage("verify", recipe, "--variant", "q4", "--no-runtimes", "--build", own)
    home = own / "embedded" / "report"
    report = json.loads((home / "report.json").read_text())
    assert (report["verdict"], report["complete"]) == ("passed", False)
    assert report["environment"]["runtimes"] == {}, "no browser is started for a version that decides nothing"
    assert "fp32" in report["not_judged"]
    assert "convert warned: it pads with -1" in report["notices"]
    assert "it pads with -1" in (home / "report.md").read_text()
    assert {"what": "browser", "reason": "left out by --no-runtimes", "required": False, "part": False} in report[
        "not_run"
    ]
    assert open_artifact(home, made_by="x").manifest.facts["complete"] is False


def test_an_altered_variant_is_refused(own: Path, stage: Stage) -> None:
    path = own / "embedded" / "q8" / "onnx" / "model_quantized.onnx"
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    error = stage("verify", EMBEDDED, "--variant", "q8", "--build", own, code=3).stderr
    assert "onnx/model_quantized.onnx differs from its digest" in error
    assert "run: python -m quantize" in error


def test_a_variant_of_another_conversion_is_refused(own: Path, stage: Stage) -> None:
    path = own / "embedded" / "q8" / "manifest.json"
    table = json.loads(path.read_text())
    table["parents"]["fp32"] = "0" * 64
    path.write_text(json.dumps(table))
    error = stage("verify", EMBEDDED, "--variant", "q8", "--build", own, code=3).stderr
    assert "made from another fp32 than the one there now" in error


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--variant", "q5"], 2, "unknown variant 'q5'"),
        (["--candidate", "x.onnx"], 2, "one variant's tolerances"),
        (["--candidate", "x.onnx", "--variant", "q8", "q4"], 2, "one variant's tolerances"),
        (["--candidate", "no-such.onnx", "--variant", "q8"], 3, "not a file"),
        (["--source", "."], 2, "--source without --candidate"),
        (["--format", "pdf"], 2, "invalid choice: 'pdf'"),
        (["--format", "json", "--tolerances"], 2, "not allowed with"),
        (["--tolerances", "0.5"], 2, "would fail what was measured"),
        (["--tolerances", "nan"], 2, "would fail what was measured"),
        ([], 3, "artifact not found"),
    ],
)
def test_a_wrong_command_line_is_refused(
    arguments: list[str], code: int, message: str, tmp_path: Path, stage: Stage
) -> None:
    assert message in stage("verify", EMBEDDED, *arguments, "--build", tmp_path, code=code).stderr
    assert list(tmp_path.iterdir()) == []


def test_help_is_there_before_any_library(stage: Stage) -> None:
    for name in ("convert", "quantize", "verify"):
        result = stage(name, "--help", PYTHONPROFILEIMPORTTIME="1")
        assert f"python -m {name}" in result.stdout
        loaded = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
        assert "argparse" in loaded, "the interpreter says what it imports"
        assert "torch" not in loaded
