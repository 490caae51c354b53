"""The variants of a model and the forms of its graph, by name: where each lies in an artifact and on the Hub."""

from __future__ import annotations

from pathlib import Path

GRAPHS = ("fused", "standard")  # operators of onnxruntime, one node per idea; or operators of ONNX only

FILES = {
    "fp32": "model.onnx",
    "fp16": "model_fp16.onnx",
    "q8": "model_quantized.onnx",
    "int8": "model_int8.onnx",
    "uint8": "model_uint8.onnx",
    "q4": "model_q4.onnx",
    "q4f16": "model_q4f16.onnx",
    "q2": "model_q2.onnx",
    "q2f16": "model_q2f16.onnx",
    "bnb4": "model_bnb4.onnx",
}


DATA = "_data"  # what the name of a graph's external data ends in


def data_file(graph: Path) -> Path:
    """Return where a graph's weights lie if they do not lie in its own file."""
    return graph.with_name(graph.name + DATA)


def own_files(variant: str) -> tuple[str, str]:
    """Paths of a variant's graph and of its external data, which only a large one has."""
    return model_file(variant), model_file(variant) + DATA


def model_file(variant: str) -> str:
    """Path of a variant's graph inside its artifact and inside the Hub repository."""
    return f"onnx/{FILES[variant]}"
