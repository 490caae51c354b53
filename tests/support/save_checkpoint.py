"""Load a checkpoint and its tokenizer and save both in each shape: `python save_checkpoint.py SOURCE TARGET [...]`.

A program for any environment that has transformers: each major version writes other files and other keys.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

CHAT = "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}"
# Shape -> what the model is saved with, and the tokenizer's chat template.
SHAPES: dict[str, tuple[dict[str, Any], Any]] = {
    "plain": ({}, None),
    "shards": ({"max_shard_size": "20KB"}, None),
    "bfloat16": ({}, None),
    "chat": ({}, CHAT),
    "chats": ({}, {"default": CHAT, "tool_use": f"{CHAT}!"}),
}


def save(source: str, target: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=True)
    for shape, (options, template) in SHAPES.items():
        dtype = torch.bfloat16 if shape == "bfloat16" else torch.float32
        model: Any = AutoModelForCausalLM.from_pretrained(source, local_files_only=True)
        model = model.to(dtype)
        model.save_pretrained(Path(target) / shape, **options)
        tokenizer.chat_template = template
        tokenizer.save_pretrained(Path(target) / shape)


if __name__ == "__main__":
    for source, target in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
        save(source, target)
