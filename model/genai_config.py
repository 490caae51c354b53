"""genai_config.json, from which onnxruntime-genai learns what it cannot read from the graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from model.contract import Dimensions
from pipeline.variants import is_in_place, model_file

FILE = "genai_config.json"


def config(dims: Dimensions, tokens: Mapping[str, Any], variant: str) -> dict[str, Any]:
    """The file's content for one variant; `tokens` holds bos_token_id, eos_token_id (one or a list) and pad_token_id.

    One that is None is left out: genai reads no null.

    The type is "decoder", its word for any decoder whose inputs are named here. Its types for single architectures may
    want a layer's keys and values in one tensor, which no other loader takes (docs/decisions/0012).
    """
    decoder = {
        "filename": model_file(variant),
        "session_options": {"provider_options": []},
        "head_size": dims.head_dim,
        "hidden_size": dims.hidden,
        "num_attention_heads": dims.heads,
        "num_hidden_layers": dims.layers,
        "num_key_value_heads": dims.kv_heads,
        "inputs": {
            "input_ids": "input_ids",
            "attention_mask": "attention_mask",
            "position_ids": "position_ids",
            "past_key_names": "past_key_values.%d.key",
            "past_value_names": "past_key_values.%d.value",
        },
        "outputs": {
            "logits": "logits",
            "present_key_names": "present.%d.key",
            "present_value_names": "present.%d.value",
        },
    }
    known = {
        name: tokens[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id") if tokens.get(name) is not None
    }
    model = {"type": "decoder", "context_length": dims.context, "vocab_size": dims.vocabulary, "decoder": decoder}
    search = {"do_sample": False, "max_length": dims.context, "num_beams": 1, **_cache(variant)}
    return {"model": {**model, **known}, "search": search}


def renamed(content: Mapping[str, Any], variant: str) -> dict[str, Any]:
    """The same content for another variant's file, or for its graph in place."""
    model = content["model"]
    named = {**model, "decoder": {**model["decoder"], "filename": model_file(variant)}}
    return {**content, "model": named, "search": {**content["search"], **_cache(variant)}}


def _cache(name: str) -> dict[str, bool]:
    """Return whether past and present are one buffer; of the loaders' own graph the cache is returned grown."""
    return {"past_present_share_buffer": is_in_place(name)}
