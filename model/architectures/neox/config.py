"""GPT-NeoX: which configurations are accepted, and which tensors they must have."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from model import config_checks
from model.architecture import wrong_key
from model.architectures.gpt2.config import ACTIVATIONS
from model.architectures.llama import rope
from model.architectures.llama.config import buffer_bytes, check_tokens
from model.contract import Dimensions

__all__ = [
    "ALIASES",
    "EPSILON",
    "HEADS",
    "buffer_bytes",
    "canonical_name",
    "complete",
    "dimensions",
    "rotated_width",
    "tensors",
    "turning",
    "values_of",
]
HEADS, EPSILON = "num_attention_heads", "layer_norm_eps"
ALIASES: Mapping[str, str] = {}
SIZES = (
    "num_hidden_layers",
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "max_position_embeddings",
    "vocab_size",
)
DEFAULTS: Mapping[str, Any] = {
    "num_hidden_layers": 44,
    "hidden_size": 6144,
    "intermediate_size": 24576,
    "num_attention_heads": 64,
    "max_position_embeddings": 2048,
    "vocab_size": 50432,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "attention_bias": True,
    "use_parallel_residual": True,
}
FLAGS = ("tie_word_embeddings", "attention_bias", "use_parallel_residual")
BASE, SHARE = "rotary_emb_base", "rotary_pct"  # what a table of rotary positions may leave out
TABLES = ("rope_scaling", "rope_parameters")
PARTIAL = "partial_rotary_factor"  # what SHARE is called in a table
# Buffers that old checkpoints store, and what they call the head.
BUFFERS = (".attention.bias", ".attention.masked_bias", ".rotary_emb.inv_freq")
OLD_HEAD, HEAD = "embed_out.weight", "lm_head.weight"
_Shapes = dict[str, tuple[int, ...]]


def values_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config with all that it leaves to transformers' defaults, rotary positions too."""
    values = {**DEFAULTS, BASE: rope.THETA, SHARE: 0.25, **{k: v for k, v in config.items() if v is not None}}
    table: Any = next((values[key] for key in TABLES if values.get(key)), {})
    if isinstance(table, Mapping):
        values |= {BASE: table.get("rope_theta", values[BASE]), SHARE: table.get(PARTIAL, values[SHARE])}
    return values


def turning(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values as Llama's rotary positions are stated, for a head of the width that is turned."""
    found = {key: value for key, value in values.items() if key != PARTIAL}
    for key in TABLES:
        if isinstance(values.get(key), Mapping):
            found[key] = {name: value for name, value in values[key].items() if name != PARTIAL}
    return {**found, "rope_theta": values[BASE]}


def rotated_width(values: Mapping[str, Any]) -> int:
    """Return how many of a head's numbers are turned: its first."""
    return int(values["hidden_size"] // values["num_attention_heads"] * values[SHARE])


def complete(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config with the sizes that it leaves to transformers' defaults."""
    values = values_of(config)
    return {**config, **{key: values[key] for key in SIZES}}


def dimensions(config: Mapping[str, Any], where: object) -> Dimensions:
    """Return a config's sizes; InputError names the key for a value that no graph is written for."""
    values = values_of(config)
    config_checks.sizes(values, SIZES, where)
    heads = values["num_attention_heads"]
    if values["hidden_size"] % heads:
        raise wrong_key(where, "hidden_size", values["hidden_size"], f"a multiple of num_attention_heads = {heads}")
    _check_options(values, where)
    _check_rotation(values, where)
    return Dimensions(
        layers=values["num_hidden_layers"],
        hidden=values["hidden_size"],
        heads=heads,
        kv_heads=heads,
        head_dim=values["hidden_size"] // heads,
        context=values["max_position_embeddings"],
        vocabulary=values["vocab_size"],
        parameters=sum(math.prod(shape) for shape in tensors(config).values()),
        tied=values["tie_word_embeddings"],
    )


def tensors(config: Mapping[str, Any]) -> _Shapes:
    """Return name and shape of every tensor that a checkpoint of this config stores, each once."""
    values = values_of(config)
    hidden, table = values["hidden_size"], (values["vocab_size"], values["hidden_size"])
    shapes: _Shapes = {"gpt_neox.embed_in.weight": table}
    shapes |= {f"gpt_neox.final_layer_norm.{part}": (hidden,) for part in ("weight", "bias")}
    if not values["tie_word_embeddings"]:
        shapes[HEAD] = table
    for number in range(values["num_hidden_layers"]):
        shapes |= {f"gpt_neox.layers.{number}.{name}": shape for name, shape in _layer(values).items()}
    return shapes


def canonical_name(name: str, *, tied: bool) -> str | None:
    """Return a stored tensor's name as `tensors` spells it; None for a buffer or the tied head."""
    known = HEAD if name == OLD_HEAD else name
    return None if name.endswith(BUFFERS) or (tied and known == HEAD) else known


def _layer(values: Mapping[str, Any]) -> _Shapes:
    """Names and shapes of one layer's tensors."""
    hidden, inner = values["hidden_size"], values["intermediate_size"]
    norms = ("input_layernorm", "post_attention_layernorm")
    shapes: _Shapes = {f"{norm}.{part}": (hidden,) for norm in norms for part in ("weight", "bias")}
    linears = {
        "attention.query_key_value": (3 * hidden, hidden),
        "attention.dense": (hidden, hidden),
        "mlp.dense_h_to_4h": (inner, hidden),
        "mlp.dense_4h_to_h": (hidden, inner),
    }
    for name, shape in linears.items():
        shapes[f"{name}.weight"] = shape
        if values["attention_bias"] or name.startswith("mlp"):
            shapes[f"{name}.bias"] = shape[:1]
    if values["hidden_act"] == "prelu":  # the one that learns something of its own
        shapes["mlp.act.weight"] = (1,)
    return shapes


def _check_options(values: Mapping[str, Any], where: object) -> None:
    config_checks.flags(values, FLAGS, where)
    config_checks.positive(EPSILON, values[EPSILON], where)
    config_checks.activation("hidden_act", values["hidden_act"], ACTIVATIONS, where)
    config_checks.unquantized(values, where)
    config_checks.head(values, "GPTNeoXForCausalLM", where)
    check_tokens(values, where)


def _check_rotation(values: Mapping[str, Any], where: object) -> None:
    width, share = values["hidden_size"] // values["num_attention_heads"], values[SHARE]
    if type(share) not in (int, float) or not 0 < share <= 1 or rotated_width(values) % 2 or not rotated_width(values):
        hint = f"from 0 to 1: the share of a head's {width} numbers that is turned, an even number of them"
        raise wrong_key(where, SHARE, share, hint)
    base = values[BASE]
    config_checks.positive(BASE, base, where, rope.LIMIT)
    # Spellings of other families: transformers reads none of them here, or not everywhere.
    for key, used in {"rope_theta": base, PARTIAL: share, "head_dim": width}.items():
        if values.get(key, used) != used:
            raise wrong_key(where, key, values[key], f"absent, or {used}, which follows from the other keys")
    rope.check(turning(values), where)
