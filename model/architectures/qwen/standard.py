"""Qwen with ONNX's own operators only, for runtimes that have no others."""

from __future__ import annotations

import onnx_ir as ir

from model.architecture import GraphSource
from model.architectures.llama import graph
from model.architectures.llama.standard import FORM

from .config import as_llama


def build(source: GraphSource) -> ir.Model:
    """Return the model with the ports of the contract."""
    return graph.build(source, FORM, as_llama(source.config))
