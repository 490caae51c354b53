"""The form of an ONNX file: what decides which releases of a runtime load it, whatever its weights and sizes are.

That is its IR version, its opsets, the types of its tensors, and the kinds of its nodes: operator, attributes that
choose a kernel, inputs that are given (of constants their rank). Models of different sizes, made in the same way, have
one form.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.canonical import digest
from pipeline.errors import InputError

SIZES = ("K", "N", "block_size", "num_heads")  # integers that differ with the model or with the recipe's blocks alone


def form_of(path: Path) -> tuple[str, ...]:
    """Return the form as sorted lines: "ir 8", "opset ai.onnx 18", "tensor FLOAT", "node ...".

    Raises InputError for a file that is no ONNX model.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path, load_external_data=False)
    except DecodeError as error:
        raise InputError(f"no ONNX model: {error}", where=path, hint="run: python -m quantize RECIPE") from error
    lines = {f"ir {model.ir_version}"}
    lines |= {f"opset {entry.domain or 'ai.onnx'} {entry.version}" for entry in model.opset_import}
    lines |= {f"tensor {onnx.TensorProto.DataType.Name(kind)}" for kind in _types(model.graph)}
    ranks = {tensor.name: str(len(tensor.dims)) for tensor in model.graph.initializer}
    lines |= {_node(node, ranks) for node in model.graph.node}
    return tuple(sorted(lines))


def digest_of(form: tuple[str, ...]) -> str:
    """Return the SHA-256 of a form."""
    return digest(list(form))


def _types(graph: Any) -> Iterator[int]:
    """Element types of what is stored."""
    yield from {tensor.data_type for tensor in graph.initializer}


def _node(node: Any, ranks: Mapping[str, str]) -> str:
    """Return a node's kind, such as "node com.microsoft.MatMulNBits accuracy_level=4 bits=8; inputs x32__1"."""
    import onnx

    found = [
        f"{entry.name}={entry.i if entry.type == onnx.AttributeProto.INT else list(entry.ints)}"
        for entry in node.attribute
        if entry.type in {onnx.AttributeProto.INT, onnx.AttributeProto.INTS} and entry.name not in SIZES
    ]
    given = "".join(ranks.get(name, "x") if name else "_" for name in node.input)
    named = " ".join([f"{node.domain or 'ai.onnx'}.{node.op_type}", *sorted(found)])
    return f"node {named}; inputs {given}"
