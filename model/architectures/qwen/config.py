"""Qwen2 and Qwen3: which configurations are accepted, and which tensors they must have."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from model import config_checks
from model.architecture import wrong_key
from model.architectures.llama import config as llama
from model.architectures.llama.config import ALIASES, EPSILON, HEADS, buffer_bytes, canonical_name
from model.contract import Dimensions

__all__ = [
    "ALIASES",
    "EPSILON",
    "HEADS",
    "as_llama",
    "buffer_bytes",
    "canonical_name",
    "complete",
    "dimensions",
    "tensors",
]
# Where transformers' defaults are not Llama's.
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "qwen2": {"vocab_size": 151936, "intermediate_size": 22016, "max_position_embeddings": 32768},
    "qwen3": {"vocab_size": 151936, "intermediate_size": 22016, "max_position_embeddings": 32768, "head_dim": 128},
}
CLASSES: Mapping[str, str] = {"qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}
FULL, SLIDING = "full_attention", "sliding_attention"


def as_llama(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of the Llama that has the same sizes, rotary positions and norms.

    Its `attention_bias` is Qwen3's; Qwen2's biases, which the projection of what the heads found does not have, and
    Qwen3's norms of heads are seen by their tensors.
    """
    kind = str(config["model_type"])
    own: dict[str, Any] = {"attention_bias": False} if kind == "qwen2" else {}
    own[llama.WINDOWS] = functools.partial(_windows, config)
    stated = {key: value for key, value in config.items() if key not in ("architectures", "sliding_window")}
    if stated.get("num_key_value_heads", 0) is None:
        stated["num_key_value_heads"] = config.get("num_attention_heads", llama.DEFAULTS["num_attention_heads"])
    return {**DEFAULTS[kind], "num_key_value_heads": 32, **stated, **own, "mlp_bias": False, "model_type": "llama"}


def complete(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config with the sizes that it leaves to transformers' defaults."""
    values = llama.values_of(as_llama(config))
    return {**config, **{key: values[key] for key in llama.SIZES}}


def dimensions(config: Mapping[str, Any], where: object) -> Dimensions:
    """Return a config's sizes; InputError names the key for a value that no graph is written for."""
    _check_windows(config, where)
    config_checks.head(config, CLASSES[str(config["model_type"])], where)
    found = llama.dimensions(as_llama(config), where)
    return replace(found, parameters=sum(math.prod(shape) for shape in tensors(config).values()))


def tensors(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return name and shape of every tensor that a checkpoint of this config stores, each once."""
    same = as_llama(config)
    width = llama.values_of(same)["head_dim"]
    shapes = llama.tensors(same)
    for number in range(llama.values_of(same)["num_hidden_layers"]):
        name = f"model.layers.{number}.self_attn"
        if config["model_type"] == "qwen2":
            shapes |= {f"{name}.{part}_proj.bias": shapes[f"{name}.{part}_proj.weight"][:1] for part in "qkv"}
        else:
            shapes |= {f"{name}.{part}_norm.weight": (width,) for part in "qk"}
    return shapes


def _windows(config: Mapping[str, Any]) -> tuple[int | None, ...]:
    """Return each layer's window, as `llama.windows` does."""
    window = config.get("sliding_window", 4096) if config.get("use_sliding_window") is True else None
    return tuple(window if kind == SLIDING else None for kind in _layers(config))


def _layers(config: Mapping[str, Any]) -> list[str]:
    """Return the kind of each layer; where none is stated, the first `max_window_layers` look at everything."""
    stated = config.get("layer_types")
    if isinstance(stated, list):
        return stated
    count, full = config.get("num_hidden_layers", 32), config.get("max_window_layers", 28)
    return [FULL if number < full else SLIDING for number in range(count)]


def _check_windows(config: Mapping[str, Any], where: object) -> None:
    config_checks.flags({"use_sliding_window": config.get("use_sliding_window", False)}, ("use_sliding_window",), where)
    llama.check_window(config.get("sliding_window"), where)
    full = config.get("max_window_layers", 28)
    if type(full) is not int or full < 0:
        raise wrong_key(where, "max_window_layers", full, "a whole number from 0")
    layers = config.get("layer_types")
    if layers is None:
        return
    count = config.get("num_hidden_layers", 32)
    if not isinstance(layers, list) or len(layers) != count or not {*map(str, layers)} <= {FULL, SLIDING}:
        raise wrong_key(where, "layer_types", layers, f'"{FULL}" or "{SLIDING}" for each of the {count} layers')
    if SLIDING in layers and None in (config.get("use_sliding_window") or None, config.get("sliding_window", 4096)):
        raise wrong_key(where, "layer_types", layers, f'"{FULL}" in every layer, for the config has no window')
