"""Qwen with operators of onnxruntime for rotation and activation."""

from __future__ import annotations

import onnx_ir as ir

from model.architecture import GraphSource
from model.architectures.llama import graph
from model.architectures.llama.fused import FORM, unsupported

from .config import as_llama

__all__ = ["build", "unsupported"]


def build(source: GraphSource) -> ir.Model:
    """Return the model with the ports of the contract."""
    return graph.build(source, FORM, as_llama(source.config))
