"""Small random GPT-2 checkpoints of any size, with the embedded model's tokenizer: what growth is measured on."""

from __future__ import annotations

import shutil
from pathlib import Path

from pipeline.plugins import ROOT

EMBEDDED = ROOT / "recipes" / "embedded"
TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
    "README.md",
)


class Factory:
    """Makes checkpoints in the process that it lives in, which needs torch."""

    def make(self, directory: Path, layers: int, hidden: int) -> None:
        """Write a random checkpoint of `layers` layers and width `hidden`, in the embedded model's context."""
        import torch
        from transformers import GPT2Config, GPT2LMHeadModel

        torch.manual_seed(0)
        config = GPT2Config.from_pretrained(EMBEDDED, n_layer=layers, n_embd=hidden, dtype=torch.float32)
        GPT2LMHeadModel(config).save_pretrained(directory)
        for name in TOKENIZER:
            shutil.copyfile(EMBEDDED / name, directory / name)
