"""State what the Llama family's parts are called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from model.landmarks import Kind, Landmarks, Layer, Projection

from .config import values_of

MODULES: Mapping[str, Kind] = {"LlamaRotaryEmbedding": Kind.OTHER, "MistralRotaryEmbedding": Kind.OTHER}
NORM_EPSILON = "variance_epsilon"


def landmarks(config: Mapping[str, Any]) -> Landmarks:
    """Return the names of a model's parts by their role."""
    values = values_of(config)
    return Landmarks(
        embedding="model.embed_tokens",
        head="lm_head",
        final_norm="model.norm",
        placed="angles",
        angles="angles",
        epsilon="epsilon",
        layers=tuple(_layer(f"model.layers.{number}", values) for number in range(values["num_hidden_layers"])),
    )


def _layer(name: str, values: Mapping[str, Any]) -> Layer:
    def part(letter: str, heads: str) -> Projection:
        module = f"{name}.self_attn.{letter}_proj"
        return Projection(module, range(values[heads] * values["head_dim"]), module)

    return Layer(
        block=name,
        middle=f"{name}.middle",
        attention_norm=f"{name}.input_layernorm",
        feed_forward_norm=f"{name}.post_attention_layernorm",
        query=part("q", "num_attention_heads"),
        key=part("k", "num_key_value_heads"),
        value=part("v", "num_key_value_heads"),
        scaled=f"{name}.self_attn.query.scaled",
        scores=f"{name}.self_attn.scores",
        attended=f"{name}.self_attn.heads",
        out=f"{name}.self_attn.o_proj",
        gate=f"{name}.mlp.gate_proj",
        activation=f"{name}.mlp.act_fn",
        up=f"{name}.mlp.up_proj",
        down=f"{name}.mlp.down_proj",
    )
