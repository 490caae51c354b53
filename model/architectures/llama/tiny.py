"""Llama of any size."""

from __future__ import annotations

from typing import Any

from model.contract import Dimensions


def config(dims: Dimensions, end: int) -> dict[str, Any]:
    """Return a config of these sizes, whose texts begin and end with the token `end`."""
    return {
        "model_type": "llama",
        "num_hidden_layers": dims.layers,
        "hidden_size": dims.hidden,
        "intermediate_size": -(-8 * dims.hidden // 96) * 32,  # eight thirds, in whole blocks of 32
        "num_attention_heads": dims.heads,
        "num_key_value_heads": dims.kv_heads,
        "head_dim": dims.head_dim,
        "max_position_embeddings": dims.context,
        "vocab_size": dims.vocabulary,
        "tie_word_embeddings": dims.tied,
        "bos_token_id": end,
        "eos_token_id": end,
    }
