"""The Llama family: which configurations are accepted, and which tensors they must have."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from model import config_checks
from model.architecture import wrong_key
from model.config_checks import TOKENS
from model.contract import Dimensions

from . import rope

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
DEFAULTS: Mapping[str, Any] = {
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_attention_heads": 32,
    "max_position_embeddings": 2048,
    "vocab_size": 32000,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "mlp_bias": False,
}
# Where a type's defaults in transformers are others.
OTHERS: Mapping[str, Mapping[str, Any]] = {
    "mistral": {
        "intermediate_size": 14336,
        "max_position_embeddings": 131072,
        "num_key_value_heads": 8,
        "sliding_window": 4096,
    },
}
CLASSES: Mapping[str, str] = {"llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM"}
WINDOWS = "windows of layers"  # under which a kin's config has a function in the place of `windows`, as no file can
FLAGS = ("tie_word_embeddings", "attention_bias", "mlp_bias")
BUFFERS = ".rotary_emb.inv_freq"  # frequencies that old checkpoints store
_Shapes = dict[str, tuple[int, ...]]


def values_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config with all that it leaves to transformers' defaults."""
    stated = {key: value for key, value in config.items() if value is not None or key == "sliding_window"}
    values = {**DEFAULTS, **OTHERS.get(str(config.get("model_type")), {}), **stated}
    heads = values["num_attention_heads"]
    derived = {"num_key_value_heads": heads}
    if type(heads) is int and type(values["hidden_size"]) is int and heads > 0:
        derived["head_dim"] = values["hidden_size"] // heads
    return {**derived, **values}


def windows(config: Mapping[str, Any]) -> tuple[int | None, ...]:
    """Return how many slots each layer's tokens look at, their own and those before it; None: at all."""
    values = values_of(config)
    of_kin = values.get(WINDOWS)
    if callable(of_kin):
        found: tuple[int | None, ...] = of_kin()
        return found
    own = values.get("sliding_window") if values.get("model_type") == "mistral" else None
    same: tuple[int | None, ...] = (own,) * values["num_hidden_layers"]
    return same


def complete(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config with the sizes that it leaves to transformers' defaults."""
    values = values_of(config)
    return {**config, **{key: values[key] for key in SIZES}}


def dimensions(config: Mapping[str, Any], where: object) -> Dimensions:
    """Return a config's sizes; InputError names the key for a value that no graph is written for."""
    values = values_of(config)
    config_checks.sizes(values, SIZES, where)
    heads, shared = values["num_attention_heads"], values["num_key_value_heads"]
    if values["hidden_size"] % heads:
        raise wrong_key(where, "hidden_size", values["hidden_size"], f"a multiple of num_attention_heads = {heads}")
    if heads % shared:
        raise wrong_key(where, "num_key_value_heads", shared, f"a divisor of num_attention_heads = {heads}")
    if values["head_dim"] % 2:
        raise wrong_key(where, "head_dim", values["head_dim"], "even: rotary positions turn pairs of numbers")
    _check_options(values, where)
    rope.check(values, where)
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
    values = values_of(config)
    hidden, table = values["hidden_size"], (values["vocab_size"], values["hidden_size"])
    shapes: _Shapes = {"model.embed_tokens.weight": table, "model.norm.weight": (hidden,)}
    if not values["tie_word_embeddings"]:
        shapes["lm_head.weight"] = table
    for number in range(values["num_hidden_layers"]):
        shapes |= {f"model.layers.{number}.{name}": shape for name, shape in _layer(values).items()}
    return shapes


def canonical_name(name: str, *, tied: bool) -> str | None:
    """Return a stored tensor's name as `tensors` spells it; None for a buffer or the tied head."""
    return None if name.endswith(BUFFERS) or (tied and name == "lm_head.weight") else name


def buffer_bytes(dims: Dimensions) -> int:
    """Return the bytes that loading takes beyond the weights: the frequencies of the rotation."""
    return 2 * dims.head_dim


def _layer(values: Mapping[str, Any]) -> _Shapes:
    """Names and shapes of one layer's tensors."""
    hidden, inner, width = values["hidden_size"], values["intermediate_size"], values["head_dim"]
    wide, narrow = values["num_attention_heads"] * width, values["num_key_value_heads"] * width
    shapes: _Shapes = {f"{norm}.weight": (hidden,) for norm in ("input_layernorm", "post_attention_layernorm")}
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
        shapes[f"{name}.weight"] = shape
        if values["attention_bias" if name.startswith("self_attn") else "mlp_bias"]:
            shapes[f"{name}.bias"] = shape[:1]
    return shapes


def _check_options(values: Mapping[str, Any], where: object) -> None:
    kind = values.get("model_type", "llama")
    config_checks.flags(values, FLAGS, where)
    for key in ("attention_bias", "mlp_bias"):
        if values[key] and kind != "llama":
            raise wrong_key(where, key, values[key], f"false: transformers' {kind} has no such biases")
    config_checks.positive(EPSILON, values[EPSILON], where)
    if values["hidden_act"] not in ("silu", "swish"):
        raise wrong_key(where, "hidden_act", values["hidden_act"], "silu")
    check_window(values.get("sliding_window"), where)
    if values.get("sliding_window") is not None and kind != "mistral":
        raise wrong_key(where, "sliding_window", values["sliding_window"], f"null: transformers' {kind} has no window")
    config_checks.unquantized(values, where)
    config_checks.head(values, CLASSES[kind], where)
    check_tokens(values, where)


def check_window(window: object, where: object) -> None:
    """Refuse what is no number of slots; None is no window."""
    if window is not None and (type(window) is not int or window < 1):
        raise wrong_key(where, "sliding_window", window, "a whole number from 1, or null for no window")


def check_tokens(values: Mapping[str, Any], where: object) -> None:
    """Refuse what is no token id. One outside the vocabulary is left out (model/generation) where a model loads."""
    size = values["vocab_size"]
    for key in TOKENS:
        stated = values.get(key)
        several = stated if isinstance(stated, list) and key == "eos_token_id" else [stated]
        for token in several:
            if token is not None and type(token) is not int:
                raise wrong_key(where, key, token, f"a token of the vocabulary, 0 to {size - 1}")
    padding = values.get("pad_token_id")
    if padding is not None and not -size <= padding < size:  # PyTorch's embedding, which is told of it, refuses others
        raise wrong_key(where, "pad_token_id", padding, f"a token of the vocabulary, 0 to {size - 1}, or absent")
