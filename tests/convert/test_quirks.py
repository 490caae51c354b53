"""Test checkpoints of uncommon form: how weights were pickled, tokenizers of other kinds, git's pointers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.support.tiny_checkpoints import assert_same, convert, converted, write_checkpoint


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_pickle_of_parameters_is_one_of_tensors(tmp_path: Path, dtype: torch.dtype) -> None:
    checkpoint, twin = (write_checkpoint(tmp_path / name, dtype=dtype) for name in ("pickled", "twin"))
    tensors = load_file(checkpoint / "model.safetensors")
    parameters = {name: torch.nn.Parameter(tensor) for name, tensor in tensors.items()}
    torch.save(parameters, checkpoint / "pytorch_model.bin")
    (checkpoint / "model.safetensors").unlink()
    assert_same(twin, converted(checkpoint, tmp_path / "build", "allow_pickle = true"))


def test_a_tokenizer_without_a_fast_form_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    for name in ("tokenizer.json", "vocab.json", "merges.txt"):
        (checkpoint / name).unlink()
    (checkpoint / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "ByT5Tokenizer"}))
    assert convert(checkpoint, tmp_path / "build") == 3
    assert "ByT5Tokenizer cannot be written as tokenizer.json" in capsys.readouterr().err
    assert not (tmp_path / "build" / "tiny" / "fp32").exists()


@pytest.mark.parametrize("name", ["tokenizer_config.json", "generation_config.json"])
def test_a_pointer_in_a_settings_file_s_place_is_told(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    (checkpoint / name).write_text("version https://git-lfs.github.com/spec/v1\n")
    assert convert(checkpoint, tmp_path / "build") == 3
    assert "Git LFS pointer, not content" in capsys.readouterr().err


def test_without_a_generation_config_the_end_is_the_config_s(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    (checkpoint / "generation_config.json").unlink(missing_ok=True)
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps({**config, "eos_token_id": 3}))
    found = json.loads((converted(checkpoint, tmp_path / "build") / "generation_config.json").read_text())
    assert found["eos_token_id"] == 3
    assert found["bos_token_id"] == config.get("bos_token_id", found["pad_token_id"])
