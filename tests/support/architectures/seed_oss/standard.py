"""Seed-OSS as a graph of ONNX's own operators."""

from model.architectures.llama.standard import build  # its keys are Llama's

__all__ = ["build"]
