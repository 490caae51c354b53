"""GPT-2 of any size."""

from __future__ import annotations

from typing import Any

from model.contract import Dimensions


def config(dims: Dimensions, end: int) -> dict[str, Any]:
    """Return a config of these sizes, whose texts begin and end with the token `end`."""
    return {
        "model_type": "gpt2",
        "n_layer": dims.layers,
        "n_embd": dims.hidden,
        "n_head": dims.heads,
        "n_positions": dims.context,
        "vocab_size": dims.vocabulary,
        "tie_word_embeddings": dims.tied,
        "bos_token_id": end,
        "eos_token_id": end,
    }
