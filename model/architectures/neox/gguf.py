"""GPT-NeoX as llama.cpp reads it: queries, keys and values of all heads one after the other, not head by head."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from model import gguf_tensors
from model.architectures.llama import rope

from .config import rotated_width, turning, values_of

TOKENIZER = ("gpt2", "gpt-2")
# llama.cpp has one GELU, the tanh approximation, for every NeoX: also for those that were trained with the exact one.
ACTIVATIONS = ("gelu", "gelu_fast", "gelu_new", "gelu_pytorch_tanh")


def unsupported(config: Mapping[str, Any]) -> str | None:
    """Return why llama.cpp's graph does not compute a configuration; None when it does."""
    values = values_of(config)
    kind = rope.parameters(turning(values))["rope_type"]
    if kind != "default":
        return f"GGUF files of GPT-NeoX with rotary positions of kind {kind!r} are not written"
    if values["hidden_act"] not in ACTIVATIONS:
        return "llama.cpp computes GPT-NeoX with GELU only"
    if not values["attention_bias"] or values["tie_word_embeddings"]:
        return "llama.cpp's GPT-NeoX has biases in attention and a head of its own"
    return None


def writer(config: Mapping[str, Any], weights: Mapping[str, np.ndarray], path: Path) -> Any:
    """Return a GGUFWriter that holds the model's facts and tensors."""
    import gguf

    values = values_of(config)
    made = gguf.GGUFWriter(path, "gptneox")
    made.add_context_length(values["max_position_embeddings"])
    made.add_embedding_length(values["hidden_size"])
    made.add_block_count(values["num_hidden_layers"])
    made.add_feed_forward_length(values["intermediate_size"])
    made.add_head_count(values["num_attention_heads"])
    made.add_rope_dimension_count(rotated_width(values))
    made.add_rope_freq_base(rope.parameters(turning(values))["rope_theta"])
    made.add_parallel_residual(values["use_parallel_residual"])
    made.add_layer_norm_eps(values["layer_norm_eps"])
    heads = values["num_attention_heads"]
    apart = {key: _by_part(array, heads) if ".query_key_value." in key else array for key, array in weights.items()}
    gguf_tensors.add(made, "gptneox", values["num_hidden_layers"], apart)
    return made


def _by_part(array: np.ndarray, heads: int) -> np.ndarray:
    """Rows of the joint projection with all heads' queries first, then all keys, then all values."""
    return array.reshape(heads, 3, -1, *array.shape[1:]).swapaxes(0, 1).reshape(array.shape)
