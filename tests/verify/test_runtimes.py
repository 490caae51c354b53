"""The runtimes themselves on the embedded model, with real Node and a real browser; and faults that only they see."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.support.asking import failures, files, levels, outcome, shorter
from verify.check import Measure
from verify.interop import planned, run_runtimes
from verify.reference.corpus import Corpus
from verify.reference.model import Reference
from verify.report import document
from verify.run_checks import Target
from verify.runtimes import transformersjs
from verify.runtimes.browser.server import PACKAGES, application, serving
from verify.verdict import Judged, Result

SOURCE = ROOT / "recipes" / "embedded"


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference(SOURCE, allow_pickle=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("runtime", "variants", "configurations"),
    [
        ("onnxruntime", ("fp32", "q4f16"), 8),
        ("optimum", ("fp32", "q8"), 1),
        ("transformersjs", ("fp16", "q8", "bnb4"), 1),
        ("browser", ("fp32",), 2),
        ("genai", ("fp32", "uint8", "q4"), 1),
    ],
)
def test_every_runtime_says_what_the_reference_says(
    runtime: str, variants: tuple[str, ...], configurations: int, reference: Reference, build: Path
) -> None:
    # The other build and WebGPU have tests of their own.
    settings = {"builds": ["asyncify"], "webgpu": []} if runtime == "browser" else {}
    found = outcome(shorter(runtime, **settings), reference, files(build, variants))
    assert (failures(found), found.not_run) == ([], [])
    assert {result.runtime for result in found.results} == {runtime}
    places = {(result.variant, result.level) for result in found.results}
    parts = 3 if runtime == "browser" else 2  # one that has kernels of its own is also asked without roundings
    assert len(places) == parts * configurations * len(variants)
    assert sum(place.endswith("long prompts") for _, place in places) == len(places) / parts


@pytest.mark.slow
def test_what_browsers_ask_for_runs_in_both_builds_of_the_runtime(reference: Reference, build: Path) -> None:
    """The build that Transformers.js loads by itself lacks operators that the plain one has."""
    recipe = shorter("browser", threads=[2], webgpu=[])
    found = outcome(recipe, reference, files(build, ["q8"]))
    assert failures(found) == []
    assert {result.level for result in found.results} == levels("asyncify, 2 threads", "plain, 2 threads")
    assert found.not_run == []


@pytest.mark.slow
def test_without_a_dtype_the_browser_takes_the_recipes_default(
    reference: Reference, build: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The only graph there is int8: Transformers.js' own default, q8, would be missing."""
    exchange = transformersjs.exchange
    unnamed = {"dtype": None}
    monkeypatch.setattr(transformersjs, "exchange", lambda words, asked, *rest: exchange(words, asked | unnamed, *rest))
    found = outcome(shorter("browser", builds=["plain"], threads=[1], webgpu=[]), reference, files(build, ["int8"]))
    assert (failures(found), found.not_run) == ([], [])
    assert found.results


def merge_changed(directory: Path) -> None:
    path = directory / "tokenizer.json"
    table = json.loads(path.read_text())
    table["model"]["merges"].pop(300)
    path.write_text(json.dumps(table))


def page_instead_of_config(directory: Path) -> None:
    """Return what a server for single-page applications answers for a file that is not there, with status 200."""
    (directory / "generation_config.json").write_text("<!doctype html><title>app</title>")


def file_missing(directory: Path) -> None:
    (directory / "tokenizer_config.json").unlink()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "runtime", "words"),
    [
        (merge_changed, "transformersjs", "tokenizer.tokens"),
        (page_instead_of_config, "browser", "not valid JSON"),
        (file_missing, "browser", "status 404"),
    ],
)
def test_a_fault_is_caught(
    fault: Callable[[Path], None], runtime: str, words: str, reference: Reference, build: Path, tmp_path: Path
) -> None:
    directory = Path(shutil.copytree(build / "embedded" / "fp32", tmp_path / "fp32"))
    fault(directory)
    settings = {"builds": ["plain"], "threads": [1], "webgpu": []} if runtime == "browser" else {}
    target = Target("fp32", directory / "onnx" / "model.onnx")
    found = failures(outcome(shorter(runtime, **settings), reference, [target]))
    assert any(words in failure for failure in found), found


def test_what_is_required_and_not_installed_gives_no_pass(reference: Reference, build: Path) -> None:
    recipe = shorter("transformersjs", node="no-such-node")
    runtimes = planned.plan(recipe, ["fp32"])
    assert planned.versions(runtimes) == {"transformersjs": "not installed"}
    corpus = Corpus(recipe.text_path, reference.tokenizer, 0)
    found = run_runtimes.examine(recipe, runtimes, reference, corpus, files(build, ["fp32"]))
    (entry,) = found.not_run
    assert (entry.what, entry.required, found.results) == ("transformersjs", True, [])
    assert "no-such-node" in entry.reason
    assert "make setup" in entry.reason
    for required, verdict in ((True, "failed"), (False, "passed")):
        header = {"not_run": [{"what": "x", "reason": "y", "required": required}], "prompts": None}
        judged = Judged(Measure("x", 0, 1, fixed=0), 0, upper=True, passed=True, reason="")
        assert document.document([Result("fp32", "structure", "any", (judged,))], header)["verdict"] == verdict


def test_the_server_isolates_its_page_and_knows_what_it_has_not(tmp_path: Path) -> None:
    if not PACKAGES.is_dir() and not os.environ.get("PIPELINE_CI"):
        pytest.skip("Transformers.js is not installed")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "secret.json").write_text("{}")
    found, missing = (
        ("/page.html", "/answer.mjs", "/webgpu.mjs", "/model/config.json"),
        ("/model/x.json", "/model/../secret.json"),
    )
    with serving(application(tmp_path / "model")) as origin:
        for path in (*found, *missing):
            connection = HTTPConnection(origin.removeprefix("http://"), timeout=30)
            connection.request("GET", path)
            answer = connection.getresponse()
            assert answer.status == (200 if path in found else 404)
            assert answer.headers["cross-origin-opener-policy"] == "same-origin"
            assert answer.headers["cross-origin-embedder-policy"] == "require-corp"
            connection.close()
