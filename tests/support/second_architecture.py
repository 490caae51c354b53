"""Make a tiny random checkpoint of an architecture that lies outside the project: tests/support/architectures."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from model.architecture import Architecture
from model.contract import Dimensions
from tests.conftest import EMBEDDED, ROOT

FOLDER = ROOT / "tests" / "support" / "architectures"
RECIPE = FOLDER / "seed_oss.toml"
ENVIRONMENT = {"PIPELINE_ARCHITECTURES": str(FOLDER)}
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt")
# Vocabulary and context of the embedded model, whose tokenizer it has. Heads share keys, and their width is stated.
DIMS = Dimensions(
    layers=2, hidden=64, heads=4, kv_heads=2, head_dim=24, context=256, vocabulary=2000, parameters=0, tied=True
)
END = 1999


def write_checkpoint(directory: Path, own: Architecture) -> Path:
    """Write a checkpoint as the Hub holds it; its weights are large enough that every part moves the logits."""
    assert own.tiny is not None
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(AutoConfig.for_model(**own.tiny.config(DIMS, END)))
    table = f"{own.landmarks.landmarks(model.config.to_dict()).embedding}.weight"
    with torch.no_grad():
        for name, weight in model.named_parameters():
            spread = 0.2 if name == table or weight.dim() == 1 else 1 / math.sqrt(weight.shape[1])
            weight.normal_(1.0 if weight.dim() == 1 else 0.0, spread)
    model.save_pretrained(directory)
    for name in TOKENIZER:
        shutil.copyfile(EMBEDDED.parent / "embedded" / name, directory / name)
    (directory / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Tiny\n")
    return directory
