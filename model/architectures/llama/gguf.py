"""The Llama family as llama.cpp reads it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from model import gguf_tensors

from . import rope
from .config import values_of, windows

TOKENIZER = ("gpt2", "gpt-2")


def unsupported(config: Mapping[str, Any]) -> str | None:
    """Return why llama.cpp's graph does not compute a configuration; None when it does."""
    if any(window is not None for window in windows(config)):
        return "llama.cpp's graph of this architecture has no window of attention"
    kind = rope.parameters(values_of(config))["rope_type"]
    if kind not in ("default", "linear"):
        return f"GGUF files with rotary positions of kind {kind!r} are not written"
    return None


def writer(config: Mapping[str, Any], weights: Mapping[str, np.ndarray], path: Path) -> Any:
    """Return a GGUFWriter that holds the model's facts and tensors."""
    values = values_of(config)
    turned = {"q_proj": values["num_attention_heads"], "k_proj": values["num_key_value_heads"]}

    def rows(key: str, array: np.ndarray) -> np.ndarray:
        count = turned.get(key.split(".")[-2])
        return array if count is None else _interleaved(array, count)

    return written("llama", values, {key: rows(key, array) for key, array in weights.items()}, path)


def written(kind: str, values: Mapping[str, Any], weights: Mapping[str, np.ndarray], path: Path) -> Any:
    """Return a GGUFWriter of an architecture of llama.cpp that has Llama's facts, for tensors in its order of rows."""
    import gguf

    turning = rope.parameters(values)
    made = gguf.GGUFWriter(path, kind)
    made.add_context_length(values["max_position_embeddings"])
    made.add_embedding_length(values["hidden_size"])
    made.add_block_count(values["num_hidden_layers"])
    made.add_feed_forward_length(values["intermediate_size"])
    made.add_head_count(values["num_attention_heads"])
    made.add_head_count_kv(values["num_key_value_heads"])
    made.add_key_length(values["head_dim"])
    made.add_value_length(values["head_dim"])
    made.add_rope_dimension_count(values["head_dim"])
    made.add_rope_freq_base(turning["rope_theta"])
    if turning["rope_type"] == "linear":
        made.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        made.add_rope_scaling_factor(turning["factor"])
    made.add_layer_norm_rms_eps(values["rms_norm_eps"])
    made.add_vocab_size(values["vocab_size"])
    gguf_tensors.add(made, kind, values["num_hidden_layers"], weights)
    return made


def _interleaved(array: np.ndarray, heads: int) -> np.ndarray:
    """Rows of queries or keys as llama.cpp turns them: numbers of a pair are neighbours, not half a head apart."""
    halves = array.reshape(heads, 2, -1, *array.shape[1:])
    return halves.swapaxes(1, 2).reshape(array.shape)
