"""GPT-2: which configurations are accepted, and which tensors they must have."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from model import config_checks
from model.architecture import wrong_key
from model.contract import Dimensions

HEADS, EPSILON = "n_head", "layer_norm_epsilon"
SIZES = ("n_layer", "n_embd", "n_head", "n_positions", "vocab_size")
BUFFERS = (".attn.bias", ".attn.masked_bias")  # causal masks that old checkpoints store
# transformers' own, less xielu, which nobody has written (ONNX has no expm1). Listed here, not imported, so that a
# checkpoint is refused before torch is loaded.
ACTIVATIONS = (
    "gelu",
    "gelu_10",
    "gelu_accurate",
    "gelu_fast",
    "gelu_new",
    "gelu_python",
    "gelu_python_tanh",
    "gelu_pytorch_tanh",
    "hardswish",
    "laplace",
    "leaky_relu",
    "linear",
    "mish",
    "prelu",
    "quick_gelu",
    "relu",
    "relu2",
    "relu6",
    "sigmoid",
    "silu",
    "sqrtsoftplus",
    "swish",
    "tanh",
)
# Other spellings that transformers reads too, and lets win over the first.
ALIASES: Mapping[str, str] = {
    "hidden_size": "n_embd",
    "max_position_embeddings": "n_positions",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
}
DROPOUTS = ("attn_pdrop", "embd_pdrop", "resid_pdrop", "summary_first_dropout")  # unused, but loaders read them
FLAGS = ("scale_attn_weights", "scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn", "tie_word_embeddings")
REFUSED = {
    "add_cross_attention": "false: only decoder-only models are converted",
    "pruned_heads": "empty: the converted model needs heads of one width in every layer",
    "torchscript": "false: it unties the embeddings",
}
DEFAULTS = {
    "n_layer": 12,
    "n_embd": 768,
    "n_head": 12,
    "n_positions": 1024,
    "vocab_size": 50257,
    "n_inner": None,
    "tie_word_embeddings": True,
}


def complete(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with GPT-2's default sizes written out, because Transformers.js knows none."""
    return {**{key: DEFAULTS[key] for key in SIZES}, **config}


def dimensions(config: Mapping[str, Any], where: object) -> Dimensions:
    """Dimensions of a GPT-2 config; InputError names the key for a value that no GPT-2 can have."""
    values = {key: config.get(key, default) for key, default in DEFAULTS.items()}
    config_checks.sizes(values, (*SIZES, *(["n_inner"] if values["n_inner"] is not None else [])), where)
    if values["n_embd"] % values["n_head"]:
        raise wrong_key(where, "n_embd", values["n_embd"], f"a multiple of n_head = {values['n_head']}")
    for alias, key in ALIASES.items():
        if alias in config and config[alias] != values[key]:
            raise wrong_key(where, alias, config[alias], f"absent, or {values[key]} like {key}")
    _check_options(config, where)
    layer, outside = _shapes(values, config)
    return Dimensions(
        layers=values["n_layer"],
        hidden=values["n_embd"],
        heads=values["n_head"],
        kv_heads=values["n_head"],
        head_dim=values["n_embd"] // values["n_head"],
        context=values["n_positions"],
        vocabulary=values["vocab_size"],
        parameters=values["n_layer"] * _count(layer) + _count(outside),
        tied=values["tie_word_embeddings"],
    )


def buffer_bytes(dims: Dimensions) -> int:
    """Bytes that loading takes beyond the weights: one causal mask in each layer, and one being made."""
    return (dims.layers + 1) * dims.context**2


def tensors(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor that a checkpoint of this config stores, each once."""
    values = {key: config.get(key, default) for key, default in DEFAULTS.items()}
    layer, shapes = _shapes(values, config)
    for place in range(values["n_layer"]):
        shapes |= {f"transformer.h.{place}.{name}": shape for name, shape in layer.items()}
    return shapes


def _check_options(config: Mapping[str, Any], where: object) -> None:
    _check_numbers(config, where)
    config_checks.flags(config, [key for key in FLAGS if key in config], where)
    for key, wanted in REFUSED.items():
        if config.get(key):
            raise wrong_key(where, key, config[key], wanted)
    config_checks.head(config, "GPT2LMHeadModel", where)
    activation = config.get("activation_function", "gelu_new")
    config_checks.activation("activation_function", activation, ACTIVATIONS, where)


def _check_numbers(config: Mapping[str, Any], where: object) -> None:
    config_checks.positive(EPSILON, config.get(EPSILON, 1e-5), where)
    for key in DROPOUTS:
        share = config.get(key, 0.1)
        if type(share) not in (int, float) or not 0 <= share <= 1:
            raise wrong_key(where, key, share, "a number from 0 to 1")


_Shapes = dict[str, tuple[int, ...]]


def _shapes(values: Mapping[str, Any], config: Mapping[str, Any]) -> tuple[_Shapes, _Shapes]:
    """Names and shapes of one layer's tensors, and of those outside the layers."""
    hidden, inner = values["n_embd"], values["n_inner"] or 4 * values["n_embd"]
    outside: _Shapes = {
        "transformer.wte.weight": (values["vocab_size"], hidden),
        "transformer.wpe.weight": (values["n_positions"], hidden),
        "transformer.ln_f.weight": (hidden,),
        "transformer.ln_f.bias": (hidden,),
    }
    if not values["tie_word_embeddings"]:
        outside["lm_head.weight"] = (values["vocab_size"], hidden)
    products = {
        "attn.c_attn": (hidden, 3 * hidden),
        "attn.c_proj": (hidden, hidden),
        "mlp.c_fc": (hidden, inner),
        "mlp.c_proj": (inner, hidden),
    }
    layer: _Shapes = {f"{norm}.{part}": (hidden,) for norm in ("ln_1", "ln_2") for part in ("weight", "bias")}
    for name, shape in products.items():
        layer |= {f"{name}.weight": shape, f"{name}.bias": shape[1:]}
    if config.get("activation_function") == "prelu":  # the one that learns something of its own
        layer["mlp.act.weight"] = (1,)
    return layer, outside


def _count(shapes: _Shapes) -> int:
    return sum(math.prod(shape) for shape in shapes.values())


def canonical_name(name: str, *, tied: bool) -> str | None:
    """A stored tensor's name as `tensors` spells it; None for a buffer or the tied head, which hold nothing new."""
    if name.endswith(BUFFERS) or (tied and name == "lm_head.weight"):
        return None
    return name if name.startswith(("transformer.", "lm_head.")) else f"transformer.{name}"
