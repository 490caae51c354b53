"""Read an fp32 graph, and leave a quantized one clean: what is in the file is what the model needs."""

from __future__ import annotations

import gc
from pathlib import Path

import onnx_ir as ir
from google.protobuf.message import DecodeError
from onnx_ir.passes import common as passes

from pipeline.errors import InputError

Ports = tuple[tuple[str, str, str], ...]


def load(path: Path) -> ir.Model:
    """The model in one ONNX file. InputError if it is none, or holds functions or control flow."""
    gc.collect()  # a graph holds itself in cycles: earlier ones, with all their weights, would stay for long
    try:
        model = ir.load(path)
    except (DecodeError, ValueError) as error:
        raise InputError(f"not an ONNX model: {error}", where=path, hint="convert the source again") from error
    if model.functions or any(True for _ in model.graph.subgraphs()):
        hint = "export without functions and control flow"
        raise InputError("functions and control flow are not supported", where=path, hint=hint)
    return model


def clean(model: ir.Model) -> None:
    """Drop what nothing reads, every annotation, and recorded types and shapes other than the graph's ports.

    A runtime infers the latter; recorded ones would contradict the graph after a change of type. The model is ready to
    be written, not to be changed further.
    """
    for step in (passes.RemoveUnusedNodesPass(), passes.ClearMetadataAndDocStringPass(), passes.TopologicalSortPass()):
        step(model)
    passes.RemoveUnusedOpsetsPass()(model)
    values = [*model.graph.initializers.values(), *(value for node in model.graph for value in node.outputs)]
    for value in values:
        if not value.is_graph_output() and not value.is_graph_input():
            value.type, value.shape = None, None


def ports(model: ir.Model) -> Ports:
    """Name, element type and axes of every graph input and output, in order."""
    values = [*model.graph.inputs, *model.graph.outputs]
    return tuple((str(value.name), str(value.dtype), str(value.shape)) for value in values)
