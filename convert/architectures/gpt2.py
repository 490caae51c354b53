"""GPT-2: which configurations are accepted, which tensors they must have, and how the model is traced.

The traced model differs from transformers' in two places, both through documented extension points:
its linear layers (Conv1D) emit MatMul + Add, which every weight quantizer understands, instead of Gemm between two
Reshapes; and attention is registered with transformers' AttentionInterface, honours the two scaling flags, and selects
with Where and a finite constant, so that no row can become NaN in float16.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from artifact.errors import InputError
from artifact.signature import Dimensions

if TYPE_CHECKING:
    import torch
    from optimum.exporters.onnx import OnnxConfig
    from transformers import PreTrainedModel

ATTENTION = "pipeline_export"  # the name under which `attention` and `mask` are registered
# Score of a masked position. exp() of it is 0 in float32 and float16, and unlike -inf a row of nothing else is no NaN.
MASKED = -1e4
SIZES = ("n_layer", "n_embd", "n_head", "n_positions", "vocab_size")
LIMIT = 2**24  # no size of a model that fits a single ONNX file comes near
BUFFERS = (".attn.bias", ".attn.masked_bias")  # causal masks that old checkpoints store
DEFAULTS = {
    "n_layer": 12,
    "n_embd": 768,
    "n_head": 12,
    "n_positions": 1024,
    "vocab_size": 50257,
    "n_inner": None,
    "tie_word_embeddings": True,
}


def dimensions(config: Mapping[str, Any], where: object) -> Dimensions:
    """Dimensions of a GPT-2 config; InputError names the key for a value that no GPT-2 can have."""
    values = {key: config.get(key, default) for key, default in DEFAULTS.items()}
    for key in (*SIZES, *(["n_inner"] if values["n_inner"] is not None else [])):
        if type(values[key]) is not int or not 0 < values[key] < LIMIT:
            raise _bad(where, key, values[key], f"a whole number from 1 to {LIMIT - 1}")
    if values["n_embd"] % values["n_head"]:
        raise _bad(where, "n_embd", values["n_embd"], f"a multiple of n_head = {values['n_head']}")
    epsilon = config.get("layer_norm_epsilon", 1e-5)
    if not isinstance(epsilon, int | float) or not math.isfinite(epsilon) or epsilon <= 0:
        raise _bad(where, "layer_norm_epsilon", epsilon, "a positive number")
    if config.get("add_cross_attention"):
        raise _bad(where, "add_cross_attention", True, "false: only decoder-only models are converted")
    names = config.get("architectures") or ["GPT2LMHeadModel"]
    if names != ["GPT2LMHeadModel"]:
        raise _bad(where, "architectures", names, '["GPT2LMHeadModel"]: a model with another head generates no text')
    shapes = tensors(config)
    return Dimensions(
        layers=values["n_layer"],
        hidden=values["n_embd"],
        heads=values["n_head"],
        context=values["n_positions"],
        vocabulary=values["vocab_size"],
        parameters=sum(math.prod(shape) for shape in shapes.values()),
        tied=bool(values["tie_word_embeddings"]),
    )


def check_activation(config: Mapping[str, Any], where: object) -> None:
    """Refuse an activation function that transformers does not have, listing those it has."""
    from transformers.activations import ACT2FN

    name = config.get("activation_function", "gelu_new")
    if not isinstance(name, str) or name not in ACT2FN:
        raise _bad(where, "activation_function", name, "one of " + ", ".join(sorted(ACT2FN)))


def tensors(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor that a checkpoint of this config stores, each once."""
    values = {key: config.get(key, default) for key, default in DEFAULTS.items()}
    hidden, inner = values["n_embd"], values["n_inner"] or 4 * values["n_embd"]
    shapes: dict[str, tuple[int, ...]] = {
        "transformer.wte.weight": (values["vocab_size"], hidden),
        "transformer.wpe.weight": (values["n_positions"], hidden),
        "transformer.ln_f.weight": (hidden,),
        "transformer.ln_f.bias": (hidden,),
    }
    linear = {
        "attn.c_attn": (hidden, 3 * hidden),
        "attn.c_proj": (hidden, hidden),
        "mlp.c_fc": (hidden, inner),
        "mlp.c_proj": (inner, hidden),
    }
    for layer in range(values["n_layer"]):
        prefix = f"transformer.h.{layer}."
        for norm in ("ln_1", "ln_2"):
            shapes |= {f"{prefix}{norm}.weight": (hidden,), f"{prefix}{norm}.bias": (hidden,)}
        for name, shape in linear.items():
            shapes |= {f"{prefix}{name}.weight": shape, f"{prefix}{name}.bias": shape[1:]}
    if not values["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (values["vocab_size"], hidden)
    return shapes


def canonical_name(name: str, *, tied: bool) -> str | None:
    """A stored tensor's name as `tensors` spells it; None for a buffer or the tied head, which hold nothing new."""
    if name.endswith(BUFFERS) or (tied and name == "lm_head.weight"):
        return None
    return name if name.startswith(("transformer.", "lm_head.")) else f"transformer.{name}"


def linear(self: Any, x: torch.Tensor) -> torch.Tensor:
    """Conv1D as one MatMul and one Add: float32 [..., in] -> [..., out]."""
    import torch

    return torch.matmul(x, self.weight) + self.bias


def mask(
    batch_size: int,
    cache_position: torch.Tensor,
    kv_length: int,
    *,
    attention_mask: torch.Tensor,
    **_: object,
) -> torch.Tensor:
    """Where attention may look: bool [batch_size, 1, sequence, total]; causal by slot, and not at padding."""
    import torch

    slots = torch.arange(attention_mask.shape[-1], dtype=torch.int64)
    causal = slots[None, :] <= cache_position[:, None]
    return causal[None, None] & attention_mask[:, None, None, :].to(torch.bool)


def attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Scaled dot-product attention, float32 [batch, heads, length, head_dim]; scale as in transformers' eager GPT-2."""
    import torch

    scale = module.head_dim**-0.5 if module.scale_attn_weights else 1.0
    if module.scale_attn_by_inverse_layer_idx:
        scale /= module.layer_idx + 1
    scores = torch.matmul(query * scale, key.transpose(-1, -2))
    scores = torch.where(attention_mask, scores, torch.full((), MASKED))
    return torch.matmul(torch.softmax(scores, dim=-1), value).transpose(1, 2), None


def prepare(model: PreTrainedModel) -> None:
    """Make the loaded model use the attention above. reorder_and_upcast_attn changes nothing in float32."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(ATTENTION, attention)
    AttentionMaskInterface.register(ATTENTION, mask)
    model.config.reorder_and_upcast_attn = False
    for block in model.transformer.h:
        block.attn.reorder_and_upcast_attn = False
    model.set_attn_implementation(ATTENTION)


def export_config(model: PreTrainedModel) -> OnnxConfig:
    """Optimum's GPT-2 export config with our linear layers."""
    from optimum.exporters.onnx.model_configs import GPT2OnnxConfig
    from optimum.exporters.onnx.model_patcher import ModelPatcher
    from transformers.pytorch_utils import Conv1D

    class Patcher(ModelPatcher):  # type: ignore[misc]  # optimum is untyped
        def __enter__(self) -> None:
            super().__enter__()
            self._conv1d = _replaced(Conv1D, "forward", linear)
            self._conv1d.__enter__()

        def __exit__(self, *exception: Any) -> None:
            self._conv1d.__exit__(*exception)
            super().__exit__(*exception)

    class Config(GPT2OnnxConfig):  # type: ignore[misc]  # optimum is untyped
        _MODEL_PATCHER = Patcher

    return Config(model.config, task="text-generation", use_past=True, use_past_in_inputs=True)


@contextmanager
def _replaced(owner: type, name: str, function: Callable[..., Any]) -> Iterator[None]:
    original = getattr(owner, name)
    setattr(owner, name, function)
    try:
        yield
    finally:
        setattr(owner, name, original)


def _bad(where: object, key: str, value: object, wanted: str) -> InputError:
    return InputError(f"config key {key} is {value!r}", where=where, hint=f"it must be {wanted}")
