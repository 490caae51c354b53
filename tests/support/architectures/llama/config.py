"""Llama: which configurations are accepted, and which tensors they must have."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from model.contract import Dimensions
from pipeline.errors import InputError

HEADS, EPSILON = "num_attention_heads", "rms_norm_eps"
ALIASES: Mapping[str, str] = {}
SIZES = (
    "num_hidden_layers",
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
    "vocab_size",
)
LIMIT = 2**24  # no size of a model that fits a single ONNX file comes near
DEFAULTS = {
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_attention_heads": 32,
    "max_position_embeddings": 2048,
    "vocab_size": 32000,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "mlp_bias": False,
}
FLAGS = ("tie_word_embeddings", "attention_bias", "mlp_bias")
BUFFERS = ".rotary_emb.inv_freq"  # frequencies that old checkpoints store
_Shapes = dict[str, tuple[int, ...]]


def complete(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config with the sizes that it leaves to transformers' defaults."""
    values = {**DEFAULTS, **config}
    heads = values["num_attention_heads"]
    if values.get("num_key_value_heads") is None:
        values["num_key_value_heads"] = heads
    if values.get("head_dim") is None:
        values["head_dim"] = values["hidden_size"] // heads
    return {**config, **{key: values[key] for key in SIZES}}


def dimensions(config: Mapping[str, Any], where: object) -> Dimensions:
    """Return a config's sizes; InputError names the key for a value that no graph is written for."""
    for key in SIZES:
        value = config.get(key)
        if value is not None and (type(value) is not int or not 0 < value < LIMIT):
            raise _bad(where, key, value, f"a whole number from 1 to {LIMIT - 1}")
    values = {**DEFAULTS, **complete(config)}
    heads, shared = values["num_attention_heads"], values["num_key_value_heads"]
    if heads % shared:
        raise _bad(where, "num_key_value_heads", shared, f"a divisor of num_attention_heads = {heads}")
    if values["head_dim"] % 2:
        raise _bad(where, "head_dim", values["head_dim"], "even: rotary positions turn pairs of numbers")
    _check_options(values, where)
    return Dimensions(
        layers=values["num_hidden_layers"],
        hidden=values["hidden_size"],
        heads=heads,
        kv_heads=shared,
        head_dim=values["head_dim"],
        context=values["max_position_embeddings"],
        vocabulary=values["vocab_size"],
        parameters=sum(math.prod(shape) for shape in tensors(config).values()),
        tied=values["tie_word_embeddings"],
    )


def tensors(config: Mapping[str, Any]) -> _Shapes:
    """Return name and shape of every tensor that a checkpoint of this config stores, each once."""
    values = {**DEFAULTS, **complete(config)}
    hidden, inner, width = values["hidden_size"], values["intermediate_size"], values["head_dim"]
    wide, narrow = values["num_attention_heads"] * width, values["num_key_value_heads"] * width
    table = (values["vocab_size"], hidden)
    shapes: _Shapes = {"model.embed_tokens.weight": table, "model.norm.weight": (hidden,)}
    if not values["tie_word_embeddings"]:
        shapes["lm_head.weight"] = table
    for number in range(values["num_hidden_layers"]):
        layer = f"model.layers.{number}"
        shapes |= {f"{layer}.{norm}.weight": (hidden,) for norm in ("input_layernorm", "post_attention_layernorm")}
        linears = {
            "self_attn.q_proj": (wide, hidden),
            "self_attn.k_proj": (narrow, hidden),
            "self_attn.v_proj": (narrow, hidden),
            "self_attn.o_proj": (hidden, wide),
            "mlp.gate_proj": (inner, hidden),
            "mlp.up_proj": (inner, hidden),
            "mlp.down_proj": (hidden, inner),
        }
        for name, shape in linears.items():
            shapes[f"{layer}.{name}.weight"] = shape
            if values["attention_bias" if name.startswith("self_attn") else "mlp_bias"]:
                shapes[f"{layer}.{name}.bias"] = shape[:1]
    return shapes


def canonical_name(name: str, *, tied: bool) -> str | None:
    """Return a stored tensor's name as `tensors` spells it; None for a buffer or the tied head."""
    return None if name.endswith(BUFFERS) or (tied and name == "lm_head.weight") else name


def buffer_bytes(dims: Dimensions) -> int:
    """Return the bytes that loading takes beyond the weights: the frequencies of the rotation."""
    return 2 * dims.head_dim


def _check_options(values: Mapping[str, Any], where: object) -> None:
    for key in FLAGS:
        if not isinstance(values[key], bool):
            raise _bad(where, key, values[key], "true or false")
    for key in ("rms_norm_eps", "rope_theta"):
        if type(values[key]) not in (int, float) or not 0 < values[key] < LIMIT:
            raise _bad(where, key, values[key], "a positive number")
    if values["hidden_act"] not in ("silu", "swish"):
        raise _bad(where, "hidden_act", values["hidden_act"], "silu")
    if values.get("rope_scaling") is not None:
        raise _bad(where, "rope_scaling", values["rope_scaling"], "absent: scaled rotary positions are not written yet")
    if values.get("quantization_config"):
        raise _bad(
            where, "quantization_config", values["quantization_config"], "absent: start from the checkpoint before"
        )
    names = values.get("architectures") or ["LlamaForCausalLM"]
    if names != ["LlamaForCausalLM"]:
        raise _bad(where, "architectures", names, '["LlamaForCausalLM"]: a model with another head generates no text')


def _bad(where: object, key: str, value: object, wanted: str) -> InputError:
    return InputError(f"config key {key} is {value!r}", where=where, hint=f"it must be {wanted}")
