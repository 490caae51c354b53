"""The model card: valid for the Hub, right about the files, and every snippet in it runs as it stands."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results
from markdown_it import MarkdownIt
from transformers import AutoModelForCausalLM, AutoTokenizer

from pipeline.canonical import file_digest
from pipeline.errors import ArtifactError, InputError
from pipeline.variants import model_file
from publish import card
from publish.tree import CARD, DOCUMENT, Publishable
from tests.conftest import ROOT
from tests.support import stock_export
from tests.support.publication import MEASURES, REPOSITORY, assembled, entries
from verify.runtimes.optimum import environment

COMMIT = "0" * 40
NODE_MODULES = ("verify/runtimes/transformersjs/node_modules", "publish/page/node_modules")


@pytest.fixture(scope="module")
def both(build: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Publishable, Path]:
    tree = tmp_path_factory.mktemp("published") / "tree"
    return assembled(build / "embedded", tree), tree


@pytest.fixture(scope="module")
def published(both: tuple[Publishable, Path]) -> Publishable:
    return both[0]


@pytest.fixture(scope="module")
def tree(both: tuple[Publishable, Path]) -> Path:
    return both[1]


@pytest.fixture(scope="module")
def rendered(published: Publishable) -> str:
    return card.render(published)


@pytest.fixture(scope="module")
def snippets(rendered: str) -> dict[str, str]:
    """The text of every code block by the heading above it."""
    found, heading = {}, ""
    for token, following in zip(tokens := MarkdownIt().parse(rendered), [*tokens[1:], None], strict=True):
        if token.type == "heading_open" and following is not None:
            heading = following.content
        if token.type == "fence":
            found[heading] = token.content
    return found


@pytest.fixture(scope="module")
def hub_cache(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """HF_HOME after a download of the repository: what the loaders find without a network."""
    home = tmp_path_factory.mktemp("hf")
    entry = home / "hub" / f"models--{REPOSITORY.replace('/', '--')}"
    shutil.copytree(tree, entry / "snapshots" / COMMIT)
    (entry / "refs").mkdir()
    (entry / "refs" / "main").write_text(COMMIT)
    return home


@pytest.fixture(scope="module")
def expected(build: Path) -> str:
    """Return what PyTorch writes: the snippets' prompt, greedily, 30 tokens."""
    source = build / "embedded" / "source"
    tokenizer = AutoTokenizer.from_pretrained(source)
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    ids = model.generate(**tokenizer("I believe that", return_tensors="pt"), max_new_tokens=30, do_sample=False)
    return str(tokenizer.decode(ids[0], skip_special_tokens=True))


def run(command: list[str], environment: Mapping[str, str], cwd: Path) -> str:
    offline = {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://hub.invalid"}
    result = subprocess.run(
        command, env={**os.environ, **offline, **environment}, cwd=cwd, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout.strip()


def test_the_hubs_own_validation_accepts_it(rendered: str) -> None:
    found = ModelCard(rendered)
    data = found.data.to_dict()
    assert data["library_name"] == "transformers.js"
    assert data["base_model"] == ["embedded"]
    assert data["base_model_relation"] == "quantized"
    assert data["pipeline_tag"] == "text-generation"
    assert data["license"] == "apache-2.0"
    assert data["language"] == ["en"]
    assert data["tags"] == ["gpt2", "embedded", "inaugural-addresses", "onnx"]
    name, results = model_index_to_eval_results(data["model-index"])
    assert name == "embedded-ONNX"
    assert {result.metric_name for result in results} >= {"Perplexity, fp32", "Perplexity, q4"}
    assert {(result.metric_type, result.metric_value) for result in results} == {("perplexity", 95.0)}


def test_the_table_is_about_the_files(rendered: str, tree: Path, published: Publishable) -> None:
    lines = [line.split("|")[1:] for line in rendered.splitlines() if line.startswith("| ")]
    rows = {cells[1].strip(" `"): cells for cells in lines}
    for name in published.variants:
        graph = next(entry for entry in published.files if entry.path == model_file(name))
        cells = [cell.strip() for cell in rows[graph.path]]
        bits = 8 * graph.size / 1_478_656
        assert cells[2:8] == [f"{graph.size:,}", f"{bits:.2f}", "0.00012", "0.003", "97.5 %", f"{95 / 94:.4f}"]
    assert len(MEASURES) == 5
    assert file_digest(tree / DOCUMENT) in rendered
    assert "decode speed" not in rendered
    assert rendered == card.render(published)  # equal input, equal bytes


def test_speeds_are_shown_only_of_these_bytes(published: Publishable, tmp_path: Path) -> None:
    digests = {entry.path: entry.sha256 for entry in published.files}

    def entry(name: str, rate: float, sha256: str) -> dict[str, Any]:
        speeds = {"decode-64": {"tokens_per_s": {"median": rate}}}
        return {"engine": "ours", "name": name, "sha256": sha256, "speeds": speeds}

    results: dict[str, Any] = {
        "threads": 2,
        "environment": {"processor": "the fast one"},
        "scenarios": [{"name": "decode-64", "kind": "decode", "batch": 1, "length": 64}],
        "entries": [
            entry("fp32", 100, digests["onnx/model.onnx"]),
            entry("q8", 250, digests["onnx/model_quantized.onnx"]),
            entry("q4", 300, "ab" * 32),
        ],
    }
    home = tmp_path / "home"
    (home / "source").parent.mkdir()
    shutil.copytree(published.source_directory, home / "source")
    for name in published.variants:
        (home / name).symlink_to(published.home / name)
    (home / "benchmarks").mkdir()
    (home / "benchmarks" / "bench.json").write_text(json.dumps(results))
    lines = card.render(replace(published, home=home)).splitlines()
    table = [line.split("|") for line in lines if line.count("|") > 8]
    ends = {cells[1].strip(): cells[-2].strip() for cells in table}
    assert (ends["fp32"], ends["q8"], ends["q4"], ends["dtype"]) == ("1.00 x", "2.50 x", "-", "decode speed")
    results["entries"] = results["entries"][2:]
    (home / "benchmarks" / "bench.json").write_text(json.dumps(results))
    assert "decode speed" not in card.render(replace(published, home=home))


def test_a_hostile_source_card_stays_below_and_shown(published: Publishable, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(published.source_directory, home / "source")
    for name in published.variants:
        (home / name).symlink_to(published.home / name)

    def about() -> Publishable:
        return replace(published, home=home, source=replace(published.source, files=entries(home / "source")))

    hostile = (
        "---\nlicense: apache-2.0\nbase_model: other/model\nmodel-index:\n- name: x\n  results: []\n---\n"
        "<!-- never closed\n<script>alert(1)</script>\n{{ 7 * 7 }} {% raw %} `<b>` <https://example.com>\n"
        "```html\n<b>\n```\n"
    )
    (home / "source" / CARD).write_text(hostile)
    with pytest.raises(ArtifactError, match="the file changed while it was published"):
        card.render(replace(published, home=home))
    found = card.render(about())
    data = ModelCard(found).data.to_dict()
    assert data["base_model"] == ["embedded"]
    assert data["model-index"][0]["name"] == "embedded-ONNX"
    ours, _, theirs = found.partition("## The source's card")
    assert "<" not in re.sub(r"```.*?```", "", ours, flags=re.DOTALL)
    assert theirs.strip().splitlines() == [
        "&lt;!-- never closed",
        "&lt;script>alert(1)&lt;/script>",
        "{{ 7 * 7 }} {% raw %} `<b>` <https://example.com>",
        "```html",
        "<b>",
        "```",
    ]
    (home / "source" / CARD).write_text("---\n: [\n---\n")
    with pytest.raises(InputError, match="the source's card cannot be read"):
        card.render(about())
    (home / "source" / CARD).unlink()
    assert "The source has none." in card.render(about())


@pytest.mark.slow
@stock_export.missing
def test_snippet_for_optimum_writes_what_pytorch_writes(
    snippets: dict[str, str], hub_cache: Path, expected: str, tmp_path: Path
) -> None:
    (tmp_path / "snippet.py").write_text(snippets["Optimum"])
    python = str(environment.program("python"))
    assert run([python, "snippet.py"], {"HF_HOME": str(hub_cache)}, tmp_path) == expected


@pytest.mark.slow
def test_snippet_for_onnxruntime_runs(snippets: dict[str, str], hub_cache: Path, expected: str, tmp_path: Path) -> None:
    text = snippets["ONNX Runtime"]
    (tmp_path / "q4.py").write_text(text)
    written = run([sys.executable, "q4.py"], {"HF_HOME": str(hub_cache)}, tmp_path)
    assert written.startswith("I believe that ")
    assert "model_q4.onnx" in text
    (tmp_path / "fp32.py").write_text(text.replace("model_q4.onnx", "model.onnx"))
    assert run([sys.executable, "fp32.py"], {"HF_HOME": str(hub_cache)}, tmp_path) == expected


@pytest.mark.slow
@pytest.mark.skipif(find_spec("onnxruntime_genai") is None, reason="onnxruntime-genai is missing: make setup")
def test_snippet_for_genai_runs_in_place(
    snippets: dict[str, str], hub_cache: Path, tree: Path, expected: str, tmp_path: Path
) -> None:
    (tmp_path / "snippet.py").write_text(snippets["A cache that stays in place"])
    told = json.loads((tree / "genai_config.json").read_text())
    assert told["model"]["decoder"]["filename"] == model_file("fp32_in_place")
    assert told["search"]["past_present_share_buffer"]
    written = run([sys.executable, "snippet.py"], {"HF_HOME": str(hub_cache)}, tmp_path)
    assert written.startswith(expected)


@pytest.mark.slow
def test_snippet_for_a_session_in_place_runs(
    snippets: dict[str, str], hub_cache: Path, expected: str, tmp_path: Path
) -> None:
    (tmp_path / "snippet.py").write_text(snippets["The same in ONNX Runtime"])
    assert run([sys.executable, "snippet.py"], {"HF_HOME": str(hub_cache)}, tmp_path) == expected


@pytest.mark.slow
def test_snippet_for_transformers_js_runs(snippets: dict[str, str], tree: Path, expected: str, tmp_path: Path) -> None:
    modules = next((path for name in NODE_MODULES if (path := ROOT / name / "@huggingface").is_dir()), None)
    node = shutil.which("node")
    if node is None or modules is None:
        if os.environ.get("PIPELINE_CI") == "1":
            pytest.fail("node, or its packages, are missing")
        pytest.skip("node, or its packages, are missing: make setup")
    (tmp_path / "models" / "somebody").mkdir(parents=True)
    (tmp_path / "models" / REPOSITORY).symlink_to(tree)
    (tmp_path / "node_modules").symlink_to(modules.parent)
    (tmp_path / "offline.mjs").write_text(
        "import { env } from '@huggingface/transformers';\n"
        "env.allowRemoteModels = false; env.useFSCache = false; env.localModelPath = process.cwd() + '/models/';\n"
    )
    text = snippets["Transformers.js"]
    (tmp_path / "q8.mjs").write_text(text)
    assert "dtype: 'q8'" in text
    written = run([node, "--import", "./offline.mjs", "q8.mjs"], {}, tmp_path)
    assert written.startswith("I believe that ")
    (tmp_path / "fp32.mjs").write_text(text.replace("'q8'", "'fp32'"))
    assert run([node, "--import", "./offline.mjs", "fp32.mjs"], {}, tmp_path) == expected
