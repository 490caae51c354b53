"""Small random checkpoints of any size, otherwise as the embedded model: what growth is measured on."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from model.architecture import of_model_type
from model.checkpoint import read_config
from pipeline.errors import InputError
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
        """Write a random checkpoint of `layers` layers and width `hidden`."""
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        where = EMBEDDED / "config.json"
        embedded = read_config(where)
        own = of_model_type(embedded["model_type"], where)
        if own.tiny is None:
            raise InputError(f"no sizes of {own.name} can be made", where=where, hint="add tiny.py to the architecture")
        dims = own.config.dimensions(embedded, where)
        dims = replace(dims, layers=layers, hidden=hidden, head_dim=hidden // dims.heads)
        torch.manual_seed(0)
        config = AutoConfig.for_model(**own.tiny.config(dims, embedded["eos_token_id"]))
        AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(directory)
        for name in TOKENIZER:
            shutil.copyfile(EMBEDDED / name, directory / name)
