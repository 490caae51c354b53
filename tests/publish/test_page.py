"""The try-it page in a real browser."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, TopKLogitsWarper, TopPLogitsWarper

from pipeline.recipe.recipe import read_recipe
from publish import browser, serve
from tests.conftest import EMBEDDED, ROOT
from tests.support.page_server import Tree, lacking, node, served

PROMPT = "I believe that"
CHROMIUM = shutil.which("chromium")


@pytest.fixture(scope="module")
def files(build: Path) -> Tree:
    """Serve the embedded model with three faults: a file missing, one altered, one too big for memory."""
    node()
    tree = dict(serve.tree(read_recipe(EMBEDDED), build / "embedded"))
    bnb4 = tree["onnx/model_bnb4.onnx"]
    assert isinstance(bnb4, Path)
    tree["onnx/model_bnb4.onnx"] = bnb4.read_bytes()[:-1] + b"\0"
    tree["onnx/model_fp16.onnx"] = build / "absent"
    settings = json.loads(bytes(tree[browser.SETTINGS]))  # page.json is made, not a file
    next(entry for entry in settings["variants"] if entry["dtype"] == "uint8")["size"] = 2**52
    tree[browser.SETTINGS] = json.dumps(settings).encode()
    return tree


@pytest.fixture(scope="module")
def address(files: Tree) -> Iterator[str]:
    with served(files) as place:
        yield place


def written(build: Path, tokens: int) -> str:
    """Return what PyTorch continues the prompt with, each time the most probable token."""
    source = build / "embedded" / "source"
    tokenizer = AutoTokenizer.from_pretrained(source)
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    inputs = tokenizer(PROMPT, return_tensors="pt")
    ids = model.generate(**inputs, max_new_tokens=tokens, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    return str(tokenizer.decode(ids, skip_special_tokens=True))


@pytest.fixture(scope="module")
def seen(address: str, files: Tree, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what the page did in the browser (tests/publish/try_it.mjs), and whom it asked by the browser's log."""
    if CHROMIUM is None:
        lacking("chromium")
    log = tmp_path_factory.mktemp("browser") / "net.json"
    settings = log.with_name("page.json")
    local = json.loads(bytes(files[browser.SETTINGS]))  # page.json is made, not a file
    settings.write_text(json.dumps({**local, "code": browser.published_code()}))
    shots = [os.environ["SHOTS"]] if "SHOTS" in os.environ else []
    command = [node(), ROOT / "tests" / "publish" / "try_it.mjs", address, CHROMIUM, log, settings, *shots]
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    events = [event.get("params", {}) for event in json.loads(log.read_text(encoding="utf-8"))["events"]]
    own = [event["url"] for event in events if str(event.get("initiator")).startswith(address.rstrip("/"))]
    found["asked"] = {urlsplit(url).hostname for url in own}
    found["connected"] = {event["remote_address"].rpartition(":")[0] for event in events if "remote_address" in event}
    return found


@pytest.mark.slow
def test_it_writes_what_pytorch_writes(seen: dict[str, Any], build: Path) -> None:
    assert seen["variants"]["written"]["fp32"]["text"] == written(build, 32)
    for dtype, entry in seen["variants"]["written"].items():
        assert entry["text"].strip(), dtype
        assert entry["pieces"] >= 5, f"{dtype}: {entry['pieces']} pieces are no stream"
        assert re.match(r"\d+ tokens · [\d.,]+ tokens/s · first after [\d.]+ s · ", entry["figures"]), entry["figures"]
        assert entry["status"].endswith(entry["text"])
        assert entry["problem"] == ""
    assert seen["variants"]["first"] == "int8"
    assert len(seen["variants"]["choices"]) == 8
    assert seen["variants"]["room"].endswith("of 256 tokens")
    threads = min(len(os.sched_getaffinity(0)), 4)
    assert f"WebAssembly, {threads} thread" in seen["variants"]["facts"]
    assert seen["variants"]["facts"].endswith("(this browser offers no WebGPU)")


@pytest.fixture(scope="module")
def on_webgpu(build: Path) -> dict[str, Any]:
    """Return what the page did where Chromium has WebGPU; as if fp32, fp16 and q4 had been judged there, and q8 not."""
    if CHROMIUM is None:
        lacking("chromium")
    node()
    tree = dict(serve.tree(read_recipe(EMBEDDED), build / "embedded"))
    settings = json.loads(bytes(tree[browser.SETTINGS]))  # page.json is made, not a file
    for entry in settings["variants"]:
        entry["webgpu"] = entry["dtype"] in ("fp32", "fp16", "q4")
    tree[browser.SETTINGS] = json.dumps({**settings, "preferred": {"wasm": "int8", "webgpu": "q4"}}).encode()
    with served(tree) as place:
        command = [node(), ROOT / "tests" / "publish" / "try_webgpu.mjs", place, CHROMIUM]
        result = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=900, check=False)
    assert result.returncode == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.mark.slow
def test_it_uses_webgpu_where_there_is_an_adapter_and_says_so(on_webgpu: dict[str, Any], build: Path) -> None:
    used = on_webgpu["used"]
    assert (used["first"], used["problem"]) == ("q4", "")
    assert used["cost"].endswith("; for WebGPU")
    assert used["facts"].endswith("tokens of context · WebGPU")
    assert used["text"] == written(build, 8)


@pytest.mark.slow
def test_it_falls_back_to_webassembly_in_words(on_webgpu: dict[str, Any], build: Path) -> None:
    reasons = {
        "unjudged": "q8 was not judged on WebGPU",
        "half": "WebGPU lacks shader-f16 here, which fp16 needs",
        "lost": "WebGPU failed: ",
    }
    for name, words in reasons.items():
        said = on_webgpu[name]
        assert said["problem"] == ""
        assert "WebAssembly, " in said["facts"]
        assert words in said["facts"]
        assert said["figures"].startswith("8 tokens")
    assert "WebGPU failed: The model could not be run" in on_webgpu["lost"]["facts"]  # it threw a number
    assert on_webgpu["lost"]["cost"].endswith("; for WebGPU")
    assert on_webgpu["lost"]["text"] == written(build, 8)
    assert "for WebAssembly: q8 was not judged on WebGPU" in on_webgpu["unjudged"]["cost"]


@pytest.mark.slow
def test_it_stops(seen: dict[str, Any]) -> None:
    stopping = seen["stopping"]
    assert (stopping["cancel"], stopping["cancelled"], stopping["busy"]) == ("Cancel", "Loading stopped", "true")
    assert int(stopping["stopped"].split()[0]) < 200
    assert stopping["stopped"].endswith("stopped")
    assert stopping["again"].startswith("5 tokens")


@pytest.mark.slow
def test_it_is_usable_by_keyboard_and_on_a_phone(seen: dict[str, Any]) -> None:
    keyboard, phone = seen["keyboard"], seen["phone"]
    assert keyboard["order"] == ["prompt", "dtype", "run", "summary", "output"]
    assert keyboard["entered"].startswith("6 tokens")
    assert keyboard["focused"] == "prompt"
    assert keyboard["escaped"].endswith("stopped")
    assert phone["width"] == 360
    assert phone["height"] >= 44  # the least that a finger hits
    assert "tokens" in phone["figures"]


@pytest.mark.slow
def test_it_says_what_went_wrong(seen: dict[str, Any]) -> None:
    said = seen["problems"]
    assert said["missing"].startswith("onnx/model_fp16.onnx is not there (404). ")
    assert said["altered"].startswith("onnx/model_bnb4.onnx is not the file that was published. ")
    assert said["memory"].startswith("There is not enough memory for these weights. ")
    assert "402 tokens long; this model reads at most 256" in said["long"]
    assert said["empty"].startswith("There is nothing to continue. ")
    assert said["invalid"] == [True, "top-p", "idle"]
    assert said["after"][0].startswith("4 tokens")
    assert said["after"][1] == ""
    assert said["offline"].startswith("This device is offline. ")
    assert said["unsupported"].startswith("This browser lacks WebAssembly, ")


def quiet(seen: dict[str, Any]) -> list[str]:
    """Return what the console has, but for what Chromium says where a page asks for an adapter in vain."""
    return [line for line in seen["errors"] if line != "No available adapters."]


@pytest.mark.slow
def test_it_is_quiet_and_asks_nobody_else(seen: dict[str, Any]) -> None:
    assert [quiet(seen[name]) for name in ("variants", "stopping", "keyboard", "phone")] == [[], [], [], []]
    assert seen["asked"] == {"127.0.0.1"}
    assert seen["connected"] == {"127.0.0.1"}


@pytest.mark.slow
def test_published_it_takes_the_library_from_the_cdn_and_checks_it(seen: dict[str, Any]) -> None:
    published = seen["published"]
    code = browser.published_code()  # of which that browser, without WebGPU, needs half
    assert set(published["asked"]) == {code[role]["url"] for role in ("library", "glue", "wasm")}
    assert published["refused"].startswith("transformers.min.js is not the file that was published. ")
    assert "tokens/s" in published["figures"]
    assert published["again"] == 0
    assert quiet(published) == []


def test_truncation_is_that_of_transformers() -> None:
    generator = np.random.default_rng(0)
    cases = [(0, 1.0), (1, 1.0), (40, 1.0), (0, 0.9), (40, 0.5), (500, 0.99), (7, 0.0)]
    logits = [generator.normal(0, 3, 300).astype(np.float32).tolist() for _ in cases]
    script = """
        const { truncate } = await import(process.argv[1]);
        let text = '';
        for await (const chunk of process.stdin) text += chunk;
        const kept = JSON.parse(text).map(([logits, k, p]) => {
          const values = Float32Array.from(logits);
          truncate(values, k, p);
          return Array.from(values, (value) => value > -Infinity);
        });
        console.log(JSON.stringify(kept));
    """
    module = (browser.HOME / "assets" / "sampling.js").as_uri()
    given = json.dumps([[row, k, p] for row, (k, p) in zip(logits, cases, strict=True)])
    command = [node(), "--input-type=module", "-e", script, module]
    result = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    for row, (k, p), kept in zip(logits, cases, json.loads(result.stdout), strict=True):
        scores = torch.tensor([row])
        if k:
            scores = TopKLogitsWarper(k)(None, scores)
        scores = TopPLogitsWarper(p)(None, scores)
        assert torch.isfinite(scores)[0].tolist() == kept, (k, p)
