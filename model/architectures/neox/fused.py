"""GPT-NeoX with operators of onnxruntime for rotation and activation, each of which is one node then."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir

from model.architecture import GraphSource
from model.architectures.gpt2.fused import ACTIVATIONS
from model.architectures.llama.fused import FORM
from model.builder import Builder

from . import graph
from .config import values_of


def unsupported(config: Mapping[str, Any]) -> str | None:
    """Say why a configuration cannot be expressed in fused operators; None when it can."""
    activation = values_of(config)["hidden_act"]
    return None if activation in ACTIVATIONS else f"hidden_act {activation!r} has no fused operator"


def build(source: GraphSource) -> ir.Model:
    """Return the model with the ports of the contract."""
    operator, attributes, domain = ACTIVATIONS[values_of(source.config)["hidden_act"]]

    def activation(own: Builder, value: ir.Value, name: str) -> ir.Value:
        return own.op(operator, [value], name, attributes, domain=domain)

    return graph.build(source, FORM, activation)
