"""Find the weight matrices of a graph by how they are used, not by their names."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from artifact.errors import InputError
from artifact.signature import Dimensions
from quantize.blocks import Floats

REARRANGEMENTS = ("Cast", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")


@dataclass
class Weight:
    """A 2-D float32 initializer with the nodes that read it the same way round.

    Seen as [N, K]: MatMul multiplies with its transpose (output N wide), Gather picks its rows.
    """

    value: ir.Value
    transposed: bool  # whether the initializer itself is [N, K]; MatMul then reads it through a Transpose
    matmuls: list[ir.Node] = field(default_factory=list)
    gathers: list[ir.Node] = field(default_factory=list)
    twin: bool = False  # whether other nodes read the same initializer the other way round

    @property
    def stem(self) -> str:
        """What the names of the quantized initializers begin with; unlike that of the twin."""
        return f"{self.name}.T" if self.twin and not self.transposed else self.name

    @property
    def name(self) -> str:
        """Name of the initializer."""
        return str(self.value.name)

    @property
    def shape(self) -> tuple[int, int]:
        """N and K."""
        first, second = _dimensions(self.value)
        return (first, second) if self.transposed else (second, first)

    def matrix(self) -> Floats:
        """The weights as contiguous float32 [N, K]."""
        array = tensor_of(self.value).numpy()
        return np.ascontiguousarray(array if self.transposed else array.T, np.float32)


def find_weights(model: ir.Model, dims: Dimensions) -> tuple[list[Weight], list[Weight]]:
    """The linear layers of the body, and the tables with one row per word of the vocabulary (embedding, lm_head).

    Other lookup tables (positions) are not listed: they are small and stay float. Raises InputError for a linear layer
    of another form, and when there is none: a variant that silently kept its weights would pass for a quantized one.
    """
    found: dict[tuple[str, bool], Weight] = {}
    for value in model.graph.initializers.values():
        if value.dtype == ir.DataType.FLOAT and len(tensor_of(value).shape) == 2:
            _collect(value, found)
    for (name, transposed), weight in found.items():
        weight.twin = (name, not transposed) in found
    _refuse_leftovers(model, found)
    body = [weight for weight in found.values() if weight.matmuls and weight.shape[0] != dims.vocabulary]
    tables = [weight for weight in found.values() if weight.shape[0] == dims.vocabulary]
    if not body:
        hint = "export linear layers as MatMul with a constant 2-D weight"
        raise InputError("no linear layer to quantize", where=f"graph {model.graph.name}", hint=hint)
    return body, tables


def tensor_of(value: ir.Value) -> ir.TensorProtocol:
    """The tensor of an initializer; InputError if it has none."""
    if value.const_value is None:
        raise InputError("initializer without a value", where=value.name, hint="convert the source again")
    return value.const_value


def _collect(value: ir.Value, found: dict[tuple[str, bool], Weight]) -> None:
    for node, position in value.uses():
        if node.op_type == "MatMul" and position == 1:
            _weight(value, found, transposed=False).matmuls.append(node)
        elif node.op_type == "Gather" and position == 0 and _axis(node) == 0:
            _weight(value, found, transposed=True).gathers.append(node)
        elif _is_for_products(node):
            _weight(value, found, transposed=True).matmuls += [user for user, _ in node.outputs[0].uses()]


def _refuse_leftovers(model: ir.Model, found: dict[tuple[str, bool], Weight]) -> None:
    """Every product with a constant must be among those found, and a weight found must have no other use."""
    hint = "export linear layers as MatMul + Add with a 2-D weight, read directly or through one Transpose"
    products = {node for weight in found.values() for node in weight.matmuls}
    readers = products | {node for weight in found.values() for node in weight.gathers}
    for node in model.graph:
        if node.op_type in ("MatMul", "Gemm") and node not in products:
            for value in filter(None, map(_constant_behind, node.inputs[:2])):
                raise InputError(f"{value.name}: {node.op_type} cannot be quantized", where=node.name, hint=hint)
    for weight in found.values():
        others = [node for node, _ in weight.value.uses() if node not in readers and not _is_for_products(node)]
        if weight.matmuls and others:
            raise InputError(f"{weight.name} has another use", where=others[0].name, hint=hint)


def _constant_behind(value: ir.Value | None) -> ir.Value | None:
    """The initializer of rank 2 or more that a value is, or is a rearrangement of."""
    while value is not None and not value.is_initializer():
        node = value.producer()
        value = node.inputs[0] if node is not None and node.op_type in REARRANGEMENTS else None
    return value if value is not None and len(tensor_of(value).shape) > 1 else None


def _weight(value: ir.Value, found: dict[tuple[str, bool], Weight], *, transposed: bool) -> Weight:
    return found.setdefault((str(value.name), transposed), Weight(value, transposed))


def _is_for_products(node: ir.Node) -> bool:
    if node.op_type != "Transpose":
        return False
    output = node.outputs[0]
    uses = output.uses()
    return bool(uses) and not output.is_graph_output() and all(u.op_type == "MatMul" and at == 1 for u, at in uses)


def _axis(node: ir.Node) -> int:
    attribute = node.attributes.get("axis")
    return 0 if attribute is None else attribute.as_int()


def _dimensions(value: ir.Value) -> tuple[int, int]:
    first, second = tensor_of(value).numpy().shape
    return first, second
