"""GPT-2 with an operator of onnxruntime for the activation, which is one node then.

Operators of com.microsoft are defined in onnxruntime's docs/ContribOperators.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir

from model.architecture import GraphSource
from model.builder import MICROSOFT, Builder

from .graph import GPT2

# Activation -> operator, its attributes, its domain. The first group is the tanh approximation of GELU, spelt
# differently; Gelu is the exact one; QuickGelu is x * sigmoid(alpha x).
TANH = ("gelu_new", "gelu_accurate", "gelu_fast", "gelu_python_tanh", "gelu_pytorch_tanh")
ACTIVATIONS: dict[str, tuple[str, dict[str, float], str]] = {
    **dict.fromkeys(TANH, ("FastGelu", {}, MICROSOFT)),
    **dict.fromkeys(("gelu", "gelu_python"), ("Gelu", {}, MICROSOFT)),
    "quick_gelu": ("QuickGelu", {"alpha": 1.702}, MICROSOFT),
    **dict.fromkeys(("silu", "swish"), ("QuickGelu", {"alpha": 1.0}, MICROSOFT)),
    "relu": ("Relu", {}, ""),
    "tanh": ("Tanh", {}, ""),
    "sigmoid": ("Sigmoid", {}, ""),
}


def unsupported(config: Mapping[str, Any]) -> str | None:
    """Say why a configuration cannot be expressed in fused operators; None when it can."""
    activation = config.get("activation_function", "gelu_new")
    if activation not in ACTIVATIONS:
        return f"activation_function {activation!r} has no fused operator"
    return None


def build(source: GraphSource) -> ir.Model:
    """Return the model with the ports of the contract."""
    operator, attributes, domain = ACTIVATIONS[source.config.get("activation_function", "gelu_new")]

    def activation(graph: Builder, value: ir.Value, name: str) -> ir.Value:
        return graph.op(operator, [value], name, attributes, domain=domain)

    return GPT2(source.config, source.weights(), source.dims, activation).model()
