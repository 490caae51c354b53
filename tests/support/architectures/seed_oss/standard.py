"""Seed-OSS as a graph of ONNX's own operators."""

from model.architectures.llama.standard import build

__all__ = ["build"]
