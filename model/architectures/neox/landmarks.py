"""State what GPT-NeoX's parts are called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from model.landmarks import Kind, Landmarks, Layer, Projection

from .config import values_of

MODULES: Mapping[str, Kind] = {"GPTNeoXRotaryEmbedding": Kind.OTHER}
NORM_EPSILON = "eps"


def landmarks(config: Mapping[str, Any]) -> Landmarks:
    """Return the names of a model's parts by their role."""
    values = values_of(config)
    return Landmarks(
        embedding="gpt_neox.embed_in",
        head="lm_head",
        final_norm="gpt_neox.final_layer_norm",
        placed="angles",
        angles="angles",
        layers=tuple(_layer(f"gpt_neox.layers.{number}", values) for number in range(values["num_hidden_layers"])),
    )


def _layer(name: str, values: Mapping[str, Any]) -> Layer:
    heads = values["num_attention_heads"]
    width = values["hidden_size"] // heads

    def part(place: int, value: str) -> Projection:
        """Of each head's outputs, which are queries, keys and values, one third."""
        outputs = [3 * width * head + width * place + number for head in range(heads) for number in range(width)]
        return Projection(f"{name}.attention.query_key_value", outputs, f"{name}.attention.{value}")

    return Layer(
        block=name,
        middle=None if values["use_parallel_residual"] else f"{name}.middle",
        attention_norm=f"{name}.input_layernorm",
        feed_forward_norm=f"{name}.post_attention_layernorm",
        query=part(0, "query"),
        key=part(1, "key"),
        value=part(2, "value"),
        scaled=f"{name}.attention.query.scaled",
        scores=f"{name}.attention.scores",
        attended=f"{name}.attention.heads",
        out=f"{name}.attention.dense",
        up=f"{name}.mlp.dense_h_to_4h",
        down=f"{name}.mlp.dense_4h_to_h",
        activation=f"{name}.mlp.act",
    )
