"""python -m benchmarks.large.checkpoint DIR: write a random checkpoint of the sizes in config.json, in bfloat16."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from pipeline.canonical import read_json
from pipeline.plugins import ROOT

CONFIG = Path(__file__).with_name("config.json")
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "README.md")  # of a small model: the vocabulary is padded
TOKENIZER_OF = ROOT / "recipes" / "embedded-qwen"


def write(directory: Path) -> None:
    """Write the checkpoint; the same weights every time."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(**read_json(CONFIG))
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(directory)
    for name in TOKENIZER:
        shutil.copyfile(TOKENIZER_OF / name, directory / name)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
