"""The embedded model in the Python loader: ORTModelForCausalLM says what PyTorch says, from the artifact as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from optimum.onnxruntime import ORTModelForCausalLM
from transformers import AutoTokenizer

from tests.support.tiny_checkpoints import one_thread, reference

PROMPTS = [
    "My fellow citizens",
    "The government of the United States",
    "We the people of this great nation, under God, are met here today to",
    "Peace",
]


@pytest.mark.slow
def test_left_padded_batch_generates_what_pytorch_generates(build: Path) -> None:
    artifact = build / "embedded" / "fp32"
    loader: Any = AutoTokenizer
    tokenizer = loader.from_pretrained(artifact, padding_side="left")
    batch = tokenizer(PROMPTS, return_tensors="pt", padding=True)
    assert {int(row.sum()) for row in batch.attention_mask} != {batch.input_ids.shape[1]}, "the batch must be ragged"
    model = ORTModelForCausalLM.from_pretrained(artifact, subfolder="onnx", file_name="model.onnx")
    options = {"max_new_tokens": 40, "min_new_tokens": 40, "do_sample": False}
    with one_thread(), torch.no_grad():
        found = model.generate(**batch, **options)
        wanted = reference(build / "embedded" / "source").generate(
            **batch, **options, pad_token_id=tokenizer.pad_token_id
        )
    assert found.shape == (4, batch.input_ids.shape[1] + 40)
    assert tokenizer.batch_decode(found) == tokenizer.batch_decode(wanted)
    assert torch.equal(found, wanted)
