"""onnxruntime-genai as an engine, on what its own builder makes of a small trained Llama."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from benchmarks.engines.genai import prepare
from pipeline.errors import UnavailableError
from tests.conftest import ROOT

session: Any = pytest.importorskip("benchmarks.engines.genai.session", reason="onnxruntime-genai: make setup")


@pytest.mark.slow
def test_it_answers_as_pytorch_does_and_decodes_every_row_to_the_end(tmp_path: Path) -> None:
    source = ROOT / "recipes" / "embedded-llama"
    prepare.make("fp32", source, Path(), tmp_path)
    runner, ids = session.load(tmp_path, "fp32", 1), np.arange(300, 340)
    model: Any = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    with torch.inference_mode():
        wanted = model(torch.tensor(ids[None])).logits[0].numpy()
    np.testing.assert_allclose(runner.logits(ids), wanted, atol=1e-4)
    assert runner.prefill(np.stack([ids, ids]), every=False) > 0
    assert runner.decode(ids, 3, 200) > 0  # no end token stops a row before that


def test_a_model_that_its_builder_does_not_take_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UnavailableError, match="the builder failed: "):
        prepare.make("fp32", tmp_path, Path(), tmp_path / "made")
