"""GPT-NeoX of any size."""

from __future__ import annotations

from typing import Any

from model.contract import Dimensions


def config(dims: Dimensions, end: int) -> dict[str, Any]:
    """Return a config of these sizes, whose texts begin and end with the token `end`."""
    return {
        "model_type": "gpt_neox",
        "num_hidden_layers": dims.layers,
        "hidden_size": dims.hidden,
        "intermediate_size": 4 * dims.hidden,
        "num_attention_heads": dims.heads,
        "max_position_embeddings": dims.context,
        "vocab_size": dims.vocabulary,
        "rotary_pct": 0.5 if dims.head_dim < 8 else 0.25,  # the usual share; of a narrow head it is no whole pair
        "tie_word_embeddings": dims.tied,
        "bos_token_id": end,
        "eos_token_id": end,
    }
