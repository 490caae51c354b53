"""GPT-2 as a graph, one node per idea, built from the checkpoint's tensors.

    embeddings + norm
    each layer: qkv -> attention -> projection -> residual + norm -> up -> gelu -> down -> residual + next norm
    head

A linear layer is MatMul + Add: a quantizer makes it one node, and onnxruntime moves the Add of a float one into the
activation that follows. Residual and norm are two nodes: SkipLayerNormalization, which is both, is slower (decision
0007). Attention is spelt out in operators of ONNX: MultiHeadAttention, which is all of it, is wrong on WebGPU adapters
of small subgroups (docs/onnxruntime-webgpu-flash-attention). Causality and padding are one additive bias, made once
for all layers. The vocabulary's table is stored as the head multiplies with it, [hidden, vocabulary], and the embedding
looks up columns: one copy, and no Transpose to run or to fold. All operators are ONNX's own, but for the activation of
the form `fused`. Values carry the names of the PyTorch modules that compute them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from model import contract
from model.builder import Builder
from model.contract import Dimensions

PARTS = ("query", "key", "value")  # of the joint projection, in its order
Activation = Callable[[Builder, ir.Value, str], ir.Value]  # of a value, as the value of this name


@dataclass(frozen=True)
class GPT2:
    """Write the graph of a checkpoint; the form decides only how the activation is written."""

    config: Mapping[str, Any]
    weights: Mapping[str, ir.TensorProtocol]
    dims: Dimensions
    activation: Activation
    graph: Builder = field(default_factory=Builder)

    def model(self) -> ir.Model:
        """The whole model, ports first."""
        graph, dims = self.graph, self.dims
        inputs = [graph.port(port) for port in contract.inputs(dims)]
        ids, attention_mask, positions, *past = inputs
        tokens = graph.embedded(ids, "transformer.wte", self._table("transformer.wte"))
        places = graph.op("Gather", [self._tensor("transformer.wpe.weight"), positions], "transformer.wpe")
        bias = graph.attention_bias(ids, attention_mask)
        residual, hidden = self._norm(tokens, places, "transformer.h.0.ln_1", "embeddings")
        presents: list[ir.Value] = []
        for layer in range(dims.layers):
            cache = past[2 * layer : 2 * layer + 2]
            residual, hidden, present = self._layer(layer, residual, hidden, bias, cache)
            presents += present
        head = self._table("transformer.wte" if dims.tied else "lm_head")
        return graph.finished(inputs, hidden, head, presents, dims)

    def _layer(
        self, layer: int, residual: ir.Value, hidden: ir.Value, bias: ir.Value, past: list[ir.Value]
    ) -> tuple[ir.Value, ir.Value, list[ir.Value]]:
        """One transformer layer: residual stream and its norm in, the same of the next layer and the cache out."""
        name = f"transformer.h.{layer}"
        after = f"transformer.h.{layer + 1}.ln_1" if layer + 1 < self.dims.layers else "transformer.ln_f"
        attended, present = self._attention(layer, self._linear(hidden, f"{name}.attn.c_attn"), bias, past)
        projected = self._linear(attended, f"{name}.attn.c_proj")
        residual, hidden = self._norm(projected, residual, f"{name}.ln_2", f"{name}.middle")
        inner = self.activation(self.graph, self._linear(hidden, f"{name}.mlp.c_fc"), f"{name}.mlp.act")
        residual, hidden = self._norm(self._linear(inner, f"{name}.mlp.c_proj"), residual, after, name)
        return residual, hidden, present

    def _attention(
        self, layer: int, joint: ir.Value, bias: ir.Value, past: list[ir.Value]
    ) -> tuple[ir.Value, list[ir.Value]]:
        """Attention over past and present: what the heads found, float32 [batch, sequence, hidden], and the cache."""
        name = f"transformer.h.{layer}.attn"
        query, *new = self._heads(name, joint)
        cache = self.graph.extended(layer, past, new)
        context = self.graph.attention(name, query, cache, self._scale(layer), bias)
        return self.graph.heads_together(name, context), cache

    def _heads(self, name: str, joint: ir.Value) -> Sequence[ir.Value]:
        """Query, key and value of the joint projection, each float32 [batch, heads, sequence, width].

        One Transpose for all three. The second Reshape changes nothing: it keeps onnxruntime's optimizer from moving
        that Transpose behind the Split, where it would be three.
        """
        graph, heads, width = self.graph, self.dims.heads, self.dims.head_dim
        apart = graph.op("Reshape", [joint, graph.vector("heads_apart", 0, 0, 3 * heads, width)], f"{name}.apart")
        turned = graph.op("Transpose", [apart], f"{name}.turned", {"perm": [0, 2, 1, 3]})
        stays = graph.op("Reshape", [turned, graph.vector("heads_first", 0, 3 * heads, -1, width)], f"{name}.joint")
        sizes = graph.vector("heads_each", heads, heads, heads)
        return graph.ops("Split", [stays, sizes], [f"{name}.{part}" for part in PARTS], {"axis": 1})

    def _scale(self, layer: int) -> ir.Value:
        """Return what one layer's queries are multiplied with, one constant for all layers if the config lets it be."""
        scale = self.dims.head_dim**-0.5 if self.config.get("scale_attn_weights", True) else 1.0
        if self.config.get("scale_attn_by_inverse_layer_idx", False):
            return self.graph.constant(f"attention_scale.{layer}", np.array(scale / (layer + 1), np.float32))
        return self.graph.constant("attention_scale", np.array(scale, np.float32))

    def _norm(self, branch: ir.Value, residual: ir.Value, norm: str, total: str) -> tuple[ir.Value, ir.Value]:
        """Residual + branch, and its layer norm."""
        stream = self.graph.op("Add", [branch, residual], total)
        inputs = [stream, self._tensor(f"{norm}.weight"), self._tensor(f"{norm}.bias")]
        epsilon = float(self.config.get("layer_norm_epsilon", 1e-5))
        return stream, self.graph.op("LayerNormalization", inputs, norm, {"axis": -1, "epsilon": epsilon})

    def _linear(self, value: ir.Value, name: str) -> ir.Value:
        return self.graph.linear(value, name, self._tensor(f"{name}.weight"), self.weights)

    def _table(self, module: str) -> ir.Value:
        """A table of the vocabulary as the head multiplies with it, float32 [hidden, vocabulary]."""
        name = f"{module}.weight"
        return self.graph.turned(name, self.weights[name])

    def _tensor(self, name: str) -> ir.Value:
        return self.graph.tensor(name, self.weights[name])
