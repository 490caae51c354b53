"""GPT-NeoX with ONNX's own operators only, for runtimes that have no others: rotation and activation are spelt out."""

from __future__ import annotations

import onnx_ir as ir

from model.architecture import GraphSource
from model.architectures.gpt2.standard import FORMULAS, Formula
from model.architectures.llama.standard import FORM
from model.builder import Builder

from . import graph
from .config import values_of


def build(source: GraphSource) -> ir.Model:
    """Return the model with the ports of the contract."""
    weights, formula = source.weights(), FORMULAS[values_of(source.config)["hidden_act"]]

    def activation(own: Builder, value: ir.Value, name: str) -> ir.Value:
        return formula(Formula(own, name, weights), value)

    return graph.build(source, FORM, activation)
