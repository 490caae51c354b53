"""Make what `tests.fuzz_checkpoints` mutates: checkpoints of one layer, of each kind of tokenizer and architecture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from model import architecture
from tests.support import tokenizer_sources as sources
from tests.support.save_checkpoint import save
from tests.support.tiny_checkpoints import random_model, write_checkpoint, write_recipe, write_tokenizer

ROWS = 67
SHAPE: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "vocab_size": ROWS,
                         "num_attention_heads": 4, "max_position_embeddings": 24}  # fmt: skip


def bases(home: Path) -> list[Path]:
    """Write the checkpoints below `home`, all small: most of a mutant's time is what its model's size takes."""
    whole = write_checkpoint(home / "whole", n_layer=1)
    save(str(whole), str(home / "saved"))
    made = [whole, *(home / "saved" / shape for shape in ("shards", "chat", "chats"))]
    made.append(_of_kind(home / "llama", "llama", num_key_value_heads=2))
    made.append(_of_kind(home / "qwen", "qwen3", num_key_value_heads=2, head_dim=8))
    made.append(_of_kind(home / "neox", "gpt_neox"))
    for write in (sources.wordpiece, sources.vocabulary_file, sources.unigram, sources.wordlevel):
        made.append(sources.checkpoint(home / write.__name__))
        write(made[-1])
    rows = sources.BYTE_FALLBACK_ROWS
    made.append(home / "byte_fallback")
    random_model(n_layer=1, vocab_size=rows, bos_token_id=1, eos_token_id=2).save_pretrained(made[-1])
    sources.byte_fallback(made[-1])
    return made


def recipe(directory: Path, base: Path) -> Path:
    """Write a recipe for mutants of `base`."""
    path = write_recipe(directory)
    config = base / "config.json"
    own = architecture.of_model_type(json.loads(config.read_bytes())["model_type"], config)
    path.write_text(path.read_text().replace('architecture = "gpt2"', f'architecture = "{own.name}"'))
    return path


def _of_kind(directory: Path, kind: str, **sizes: Any) -> Path:
    """Write a model of another architecture, as save_pretrained does, with the tokenizer of 67 tokens."""
    torch.manual_seed(3)
    end = ROWS - 1
    shape: dict[str, Any] = {**SHAPE, **sizes, "bos_token_id": end, "eos_token_id": [end, 5]}
    model: Any = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **shape))
    model.save_pretrained(directory)
    write_tokenizer(directory, ROWS)
    return directory
