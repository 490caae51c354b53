"""GPT-2 as llama.cpp reads it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from model import gguf_tensors

TOKENIZER = ("gpt2", "gpt-2")
TRANSPOSED = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")


def unsupported(config: Mapping[str, Any]) -> str | None:
    """Return why llama.cpp's graph does not compute a configuration; None when it does."""
    if config["activation_function"] != "gelu_new" or config["scale_attn_by_inverse_layer_idx"]:
        return "llama.cpp computes GPT-2 with gelu_new and unscaled layers only"
    return None


def writer(config: Mapping[str, Any], weights: Mapping[str, np.ndarray], path: Path) -> Any:
    """Return a GGUFWriter that holds the model's facts and tensors."""
    import gguf

    made = gguf.GGUFWriter(path, "gpt2")
    made.add_context_length(config["n_positions"])
    made.add_embedding_length(config["n_embd"])
    made.add_block_count(config["n_layer"])
    made.add_feed_forward_length(config["n_inner"] or 4 * config["n_embd"])
    made.add_head_count(config["n_head"])
    made.add_layer_norm_eps(config["layer_norm_epsilon"])
    turned = {key: array.T if key.endswith(TRANSPOSED) else array for key, array in weights.items()}
    gguf_tensors.add(made, "gpt2", config["n_layer"], turned)
    return made
