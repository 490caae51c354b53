"""Hold a graph to the contract before it is written: names, versions, ports, one embedding."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx_ir as ir

from model import contract
from model.builder import DTYPES
from model.contract import Dimensions, Port
from pipeline.errors import InputError

NAMES: dict[ir.DataType | None, str] = {dtype: name for name, dtype in DTYPES.items()}


def finish(model: ir.Model, dims: Dimensions, where: Path) -> None:
    """Pin the versions, put the ports in order, and compare them with the contract.

    Raises InputError if the graph breaks it: that is a fault of the architecture's folder, found here because nothing
    downstream could mend it.
    """
    graph = model.graph
    graph.name = "main"
    graph.doc_string = None
    model.ir_version = contract.IR_VERSION
    model.opset_imports[""] = contract.OPSET
    model.producer_name, model.producer_version = "onnx-conversion-pipeline", None
    model.domain, model.model_version, model.doc_string = None, None, None
    wanted = (*contract.inputs(dims), *contract.optional_inputs())
    order = {port.name: place for place, port in enumerate(wanted)}
    inputs = sorted(graph.inputs, key=lambda value: order.get(str(value.name), len(order)))
    graph.inputs.clear()
    graph.inputs.extend(inputs)
    _require_ports(graph.inputs, wanted, where)
    _require_ports(graph.outputs, contract.outputs(dims), where)
    for port in contract.optional_inputs():
        if port.name not in graph.initializers:
            hint = "report this: without a default the loaders would have to feed it"
            raise InputError(f"optional input {port.name} has no default", where=where, hint=hint)
    _require_single_embedding(graph, dims, where)


def _require_ports(values: Iterable[ir.Value], wanted: tuple[Port, ...], where: Path) -> None:
    hint = "report this: the graph that the architecture's folder writes breaks the contract"
    found = tuple(
        Port(
            str(value.name),
            str(NAMES.get(value.dtype, value.dtype)),
            tuple(axis if isinstance(axis, int) else str(axis.value) for axis in value.shape or ()),
        )
        for value in values
    )
    for have, want in zip(found, wanted, strict=False):
        if have != want:
            raise InputError(f"graph has {have}, the contract says {want}", where=where, hint=hint)
    if len(found) != len(wanted):
        raise InputError(f"graph has {len(found)} ports, the contract says {len(wanted)}", where=where, hint=hint)


def _require_single_embedding(graph: ir.Graph, dims: Dimensions, where: Path) -> None:
    """A tied embedding must not be there a second time, as it is or transposed."""
    shapes = ((dims.vocabulary, dims.hidden), (dims.hidden, dims.vocabulary))
    tables = {
        str(name): value.const_value  # not its array: one table alone is compared with nothing, and is large
        for name, value in graph.initializers.items()
        if value.const_value is not None and value.const_value.shape.numpy() in shapes
    }
    for (name, table), (copy, other) in itertools.combinations(tables.items() if dims.tied else (), 2):
        if any(np.array_equal(table.numpy(), way) for way in (other.numpy(), other.numpy().T)):
            hint = "report this: the architecture's file stores tied weights once"
            raise InputError(f"embedding stored twice, as {name} and as {copy}", where=where, hint=hint)
