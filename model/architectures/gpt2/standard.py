"""GPT-2 as a graph of standard operators: how the model is traced.

It differs from transformers' in two places, both through documented extension points: its linear layers (Conv1D) emit
MatMul + Add, which every weight quantizer understands, instead of Gemm between two Reshapes; and attention is
registered with transformers' AttentionInterface, honours the two scaling flags, and selects with Where and a finite
constant, so that no row can become NaN in float16.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from model.builder import MASKED

if TYPE_CHECKING:
    import onnx_ir as ir
    import torch
    from optimum.exporters.onnx import OnnxConfig
    from transformers import PreTrainedModel

    from model.architecture import GraphSource

ATTENTION = "pipeline_export"  # the name under which `attention` and `mask` are registered


def build(source: GraphSource) -> ir.Model:
    """Return the traced graph."""
    return source.trace(prepare, export_config)


def linear(self: Any, x: torch.Tensor) -> torch.Tensor:
    """Conv1D as one MatMul and one Add: float32 [..., in] -> [..., out]."""
    import torch

    product: torch.Tensor = torch.matmul(x, self.weight) + self.bias
    return product


def mask(*, cache_position: torch.Tensor, attention_mask: torch.Tensor, **_: object) -> torch.Tensor:
    """Return where attention may look: bool [batch_size, 1, sequence, total]; causal by slot, and not at padding."""
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
    body: Any = model.transformer
    for block in body.h:
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
            self._forward = Conv1D.forward
            Conv1D.forward = linear  # type: ignore[method-assign]

        def __exit__(self, *exception: object) -> None:
            Conv1D.forward = self._forward  # type: ignore[method-assign]
            super().__exit__(*exception)

    class Config(GPT2OnnxConfig):  # type: ignore[misc]  # optimum is untyped
        _MODEL_PATCHER = Patcher

    return Config(model.config, task="text-generation", use_past=True, use_past_in_inputs=True)
