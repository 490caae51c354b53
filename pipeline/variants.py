"""The variants of a model and the forms of its graph, by name: where each lies in an artifact and on the Hub."""

from __future__ import annotations

from collections.abc import Container
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
IN_PLACE = "_in_place"  # what the names of graphs end in whose cache may stay in place


def data_file(graph: Path) -> Path:
    """Return where a graph's weights lie if they do not lie in its own file."""
    return graph.with_name(graph.name + DATA)


def own_files(variant: str) -> tuple[str, str]:
    """Paths of a variant's graph and of its external data, which only a large one has."""
    return model_file(variant), model_file(variant) + DATA


def made_files(variant: str) -> tuple[str, str, str]:
    """The same, and the path of its graph in place, which only those have that the recipe names."""
    return (*own_files(variant), model_file(in_place(variant)))


def read_files(name: str, there: Container[str]) -> tuple[str, ...]:
    """Paths of what a session of one graph reads, given those that are there: in place, its variant's weights."""
    graph, data = own_files(base(name))
    return tuple(dict.fromkeys((model_file(name), data if data in there else graph)))


def read_with(graph: Path) -> tuple[Path, ...]:
    """Return a graph's file, and where else what a session of it reads may lie."""
    first = graph.with_stem(base(graph.stem))
    return tuple(dict.fromkeys((graph, first, data_file(first))))


def in_place(variant: str) -> str:
    """Return the name of a variant's second graph, whose cache may stay in place (model/in_place.py)."""
    return variant + IN_PLACE


def is_in_place(name: str) -> bool:
    """Return whether this names a graph in place."""
    return name.endswith(IN_PLACE)


def base(name: str) -> str:
    """Return the variant whose weights a graph of this name has: its own name, but for one in place."""
    return name.removesuffix(IN_PLACE)


def model_file(name: str) -> str:
    """Path of a variant's graph, or of its graph in place, inside its artifact and inside the Hub repository."""
    stem = FILES[base(name)].removesuffix(".onnx")
    return f"onnx/{stem}{IN_PLACE if is_in_place(name) else ''}.onnx"
