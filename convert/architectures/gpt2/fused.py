"""GPT-2 as a graph of fused operators, one node per idea, built from the checkpoint's tensors.

    embeddings + norm
    each layer: qkv -> attention -> projection -> residual + norm -> up -> gelu -> down -> residual + next norm
    head

Every bias is an input of the operator that follows its product, so that a product is a bare MatMul, which a quantizer
replaces one for one. Operators of com.microsoft are onnxruntime's, defined in its docs/ContribOperators.md.
Values carry the names of the PyTorch modules that compute them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from artifact import signature
from artifact.signature import Dimensions
from convert.builder import MICROSOFT, Builder

MASKED = -1e4  # as in `standard`
# Activation -> operator, its attributes, its domain, and whether it adds the bias itself. The first group is the tanh
# approximation of GELU, spelt differently; BiasGelu is the exact one; x * sigmoid(alpha x) is QuickGelu.
TANH = ("gelu_new", "gelu_accurate", "gelu_fast", "gelu_python_tanh", "gelu_pytorch_tanh")
ACTIVATIONS: dict[str, tuple[str, dict[str, float], str, bool]] = {
    **dict.fromkeys(TANH, ("FastGelu", {}, MICROSOFT, True)),
    **dict.fromkeys(("gelu", "gelu_python"), ("BiasGelu", {}, MICROSOFT, True)),
    "quick_gelu": ("QuickGelu", {"alpha": 1.702}, MICROSOFT, False),
    **dict.fromkeys(("silu", "swish"), ("QuickGelu", {"alpha": 1.0}, MICROSOFT, False)),
    "relu": ("Relu", {}, "", False),
    "tanh": ("Tanh", {}, "", False),
    "sigmoid": ("Sigmoid", {}, "", False),
}


def unsupported(config: Mapping[str, Any]) -> str | None:
    """Why a configuration cannot be expressed in fused operators; None when it can."""
    activation = config.get("activation_function", "gelu_new")
    if activation not in ACTIVATIONS:
        return f"activation_function {activation!r} has no fused operator"
    return None


def build(config: Mapping[str, Any], weights: Mapping[str, ir.TensorProtocol], dims: Dimensions) -> ir.Model:
    """The model with the ports of `signature`; weights float32 by the names that `config.tensors` gives."""
    return _GPT2(config, weights, dims, Builder()).model()


@dataclass(frozen=True)
class _GPT2:
    config: Mapping[str, Any]
    weights: Mapping[str, ir.TensorProtocol]
    dims: Dimensions
    graph: Builder

    def model(self) -> ir.Model:
        """The whole model, ports first."""
        graph, dims = self.graph, self.dims
        inputs = [graph.port(port) for port in signature.inputs(dims)]
        ids, attention_mask, positions, *past = inputs
        tokens = graph.op("Gather", [self._weight("transformer.wte"), ids], "transformer.wte")
        places = graph.op("Gather", [self._weight("transformer.wpe"), positions], "transformer.wpe")
        mask = graph.op("Cast", [attention_mask], "padding_mask", {"to": ir.DataType.INT32})
        residual, hidden = self._norm(tokens, places, None, "transformer.h.0.ln_1", "embeddings")
        presents: list[ir.Value] = []
        for layer in range(dims.layers):
            cache = past[2 * layer : 2 * layer + 2]
            residual, hidden, present = self._layer(layer, residual, hidden, mask, cache)
            presents += present
        keep = graph.constant(signature.LOGITS_TO_KEEP, np.array(0, np.int64))
        logits = self._head(graph.last(hidden, keep))
        return graph.model([*inputs, keep], [logits, *presents], signature.outputs(dims))

    def _layer(
        self, layer: int, residual: ir.Value, hidden: ir.Value, mask: ir.Value, past: list[ir.Value]
    ) -> tuple[ir.Value, ir.Value, list[ir.Value]]:
        """One transformer layer: residual stream and its norm in, the same of the next layer and the cache out."""
        name = f"transformer.h.{layer}"
        after = f"transformer.h.{layer + 1}.ln_1" if layer + 1 < self.dims.layers else "transformer.ln_f"
        joint = self._product(hidden, f"{name}.attn.c_attn")
        attended, present = self._attention(layer, joint, mask, past)
        projected = self._product(attended, f"{name}.attn.c_proj")
        residual, hidden = self._norm(projected, residual, f"{name}.attn.c_proj", f"{name}.ln_2", f"{name}.middle")
        inner = self._activation(self._product(hidden, f"{name}.mlp.c_fc"), f"{name}.mlp")
        outer = self._product(inner, f"{name}.mlp.c_proj")
        residual, hidden = self._norm(outer, residual, f"{name}.mlp.c_proj", after, name)
        return residual, hidden, present

    def _attention(
        self, layer: int, joint: ir.Value, mask: ir.Value, past: list[ir.Value]
    ) -> tuple[ir.Value, list[ir.Value]]:
        """Causal attention over past and present, which it concatenates; masked where the padding mask is 0."""
        graph, dims = self.graph, self.dims
        name = f"transformer.h.{layer}.attn"
        widths = graph.constant("attention_widths", np.full(3, dims.hidden, np.int64))
        parts = graph.ops(
            "Split", [joint, widths], [f"{name}.{part}" for part in ("query", "key", "value")], {"axis": -1}
        )
        scale = dims.head_dim**-0.5 if self.config.get("scale_attn_weights", True) else 1.0
        if self.config.get("scale_attn_by_inverse_layer_idx", False):
            scale /= layer + 1
        attributes = {"num_heads": dims.heads, "unidirectional": 1, "scale": scale, "mask_filter_value": MASKED}
        bias = self._tensor(f"{name}.c_attn.bias")
        names = [f"{name}.heads", *(f"present.{layer}.{part}" for part in ("key", "value"))]
        attended, *present = graph.ops(
            "MultiHeadAttention", [*parts, bias, mask, None, *past], names, attributes, domain=MICROSOFT
        )
        return attended, present

    def _norm(
        self, branch: ir.Value, residual: ir.Value, bias: str | None, norm: str, total: str
    ) -> tuple[ir.Value, ir.Value]:
        """Residual + branch + bias, and its layer norm."""
        inputs = [branch, residual, self._weight(norm), self._tensor(f"{norm}.bias")]
        inputs += [] if bias is None else [self._tensor(f"{bias}.bias")]
        epsilon = {"epsilon": float(self.config.get("layer_norm_epsilon", 1e-5))}
        # Outputs 2 and 3 are for training; a name left empty says that they are not wanted.
        names = [norm, "", "", total]
        hidden, _, _, stream = self.graph.ops("SkipLayerNormalization", inputs, names, epsilon, domain=MICROSOFT)
        return stream, hidden

    def _activation(self, inner: ir.Value, name: str) -> ir.Value:
        operator, attributes, domain, adds = ACTIVATIONS[self.config.get("activation_function", "gelu_new")]
        bias = self._tensor(f"{name}.c_fc.bias")
        inputs = [inner, bias] if adds else [self.graph.op("Add", [inner, bias], f"{name}.c_fc.biased")]
        return self.graph.op(operator, inputs, f"{name}.act", attributes, domain=domain)

    def _head(self, hidden: ir.Value) -> ir.Value:
        """Logits: hidden states times the transposed table, read in place, so that a tied one is stored once."""
        table = "transformer.wte" if self.dims.tied else "lm_head"
        return self.graph.op("FusedMatMul", [hidden, self._weight(table)], "logits", {"transB": 1}, domain=MICROSOFT)

    def _product(self, value: ir.Value, name: str) -> ir.Value:
        return self.graph.op("MatMul", [value, self._weight(name)], name)

    def _weight(self, module: str) -> ir.Value:
        return self._tensor(f"{module}.weight")

    def _tensor(self, name: str) -> ir.Value:
        return self.graph.tensor(name, self.weights[name])
