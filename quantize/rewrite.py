"""Put quantized weights into a graph: MatMulNBits for products, GatherBlockQuantized for lookups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from artifact.errors import InputError
from quantize.blocks import Blocks, quantize
from quantize.weights import Weight, tensor_of

DOMAIN = "com.microsoft"
DOMAIN_VERSION = 1


@dataclass(frozen=True)
class Grid:
    """How a weight is quantized: bits per value, values per scale, implied or stored zero point, activations."""

    bits: int
    block: int
    symmetric: bool
    accuracy_level: int  # MatMulNBits: 4 rounds activations to int8, per row and block; 0 keeps them float


def quantize_weight(model: ir.Model, weight: Weight, grid: Grid) -> None:
    """Replace every use of a weight by its one quantized form, which lookups and products share.

    The initializers are `<name>.q<bits>` uint8 [N, blocks, bytes], `<name>.scales` float32 [N, blocks] and, unless
    symmetric, `<name>.zero_points` uint8. InputError, naming the weight, when it is not finite.
    """
    try:
        blocks = quantize(weight.matrix(), bits=grid.bits, block=grid.block, symmetric=grid.symmetric)
    except ValueError as error:
        raise not_finite(weight, error) from error
    model.opset_imports[DOMAIN] = DOMAIN_VERSION
    codes = initializer(model, f"{weight.stem}.q{grid.bits}", blocks.packed)
    stored: list[ir.Value | None] = [codes, initializer(model, f"{weight.stem}.scales", blocks.scales)]
    if blocks.zero_points is not None:
        stored.append(initializer(model, f"{weight.stem}.zero_points", blocks.zero_points))
    for node in weight.matmuls:
        _product(node, weight, grid, stored)
    if weight.gathers:
        stored[0] = _rows(model, weight.gathers[0], codes, blocks)
    for node in weight.gathers:
        _lookup(model, node, blocks, stored)


def not_finite(weight: Weight, error: ValueError) -> InputError:
    """The refusal of a weight that has no finite grid."""
    return InputError(f"{weight.name}: {error}", where="fp32 graph", hint="the checkpoint is damaged; get it again")


def initializer(model: ir.Model, name: str, array: np.ndarray[Any, Any]) -> ir.Value:
    """An initializer of this name and content; one that exists already is shared."""
    known = model.graph.initializers.get(name)
    if known is not None and np.array_equal(tensor_of(known).numpy(), array):
        return known
    if known is not None:
        raise InputError(f"the name {name!r} is taken", where="fp32 graph", hint="rename that initializer")
    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    model.graph.register_initializer(value)
    return value


def replace_node(
    old: ir.Node, op_type: str, inputs: Sequence[ir.Value | None], attributes: Mapping[str, Any], domain: str = DOMAIN
) -> ir.Node:
    """Put a new node in the place of `old`, under the same node name and output name."""
    output = old.outputs[0]
    new = ir.node(op_type, inputs, attributes, domain=domain, name=old.name, outputs=[ir.Value(name=output.name)])
    new.outputs[0].shape, new.outputs[0].type = output.shape, output.type
    old.append(new)
    output.replace_all_uses_with(new.outputs[0], replace_graph_outputs=True)
    _graph(old).remove(old, safe=True)
    return new


def _product(node: ir.Node, weight: Weight, grid: Grid, stored: Sequence[ir.Value | None]) -> None:
    n, k = weight.shape
    inputs = [node.inputs[0], *stored]
    target = node
    add, bias = _bias(node, n)
    if add is not None:
        inputs += [None] * (5 - len(inputs)) + [bias]  # between them: zero_points if implied, and g_idx
        target = add
    attributes = {"K": k, "N": n, "bits": grid.bits, "block_size": grid.block, "accuracy_level": grid.accuracy_level}
    new = replace_node(target, "MatMulNBits", inputs, attributes)
    new.name = node.name
    if add is not None:
        _graph(node).remove(node, safe=True)


def _bias(node: ir.Node, width: int) -> tuple[ir.Node | None, ir.Value | None]:
    """The Add that follows a MatMul and its constant [width], when the Add is all that reads the MatMul.

    Only a 1-D constant: one of higher rank could give the sum a rank that MatMulNBits would not.
    """
    output = node.outputs[0]
    uses = tuple(output.uses())
    if len(uses) != 1 or output.is_graph_output() or uses[0].node.op_type != "Add":
        return None, None
    add = uses[0].node
    other = add.inputs[1 - uses[0].idx]
    if other is None or not other.is_initializer() or other.const_value is None:
        return None, None
    if other.dtype != ir.DataType.FLOAT or tuple(other.const_value.shape) != (width,):
        return None, None
    return add, other


def _rows(model: ir.Model, before: ir.Node, codes: ir.Value, blocks: Blocks) -> ir.Value:
    """The codes as [N, bytes], the shape that GatherBlockQuantized wants."""
    shape = initializer(model, f"{codes.name}.rows", np.array([len(blocks.packed), blocks.packed[0].size], np.int64))
    flat = ir.node("Reshape", [codes, shape], name=f"{codes.name}/Reshape")
    flat.outputs[0].name = f"{codes.name}.flat"
    before.prepend(flat)
    return flat.outputs[0]


def _lookup(model: ir.Model, node: ir.Node, blocks: Blocks, stored: Sequence[ir.Value | None]) -> None:
    """Gather rows; the columns that were added as padding are sliced off again."""
    inputs = [stored[0], node.inputs[1], *stored[1:]]
    attributes = {"bits": blocks.bits, "block_size": blocks.block, "gather_axis": 0, "quantize_axis": 1}
    if blocks.padded == blocks.columns:
        replace_node(node, "GatherBlockQuantized", inputs, attributes)
        return
    wide = ir.node("GatherBlockQuantized", inputs, attributes, domain=DOMAIN, name=f"{node.name}/GatherBlockQuantized")
    wide.outputs[0].name = f"{node.outputs[0].name}.padded"
    node.prepend(wide)
    bounds = {"start": 0, "end": blocks.columns, "axis": -1}
    limits = [initializer(model, f"{node.name}.{key}", np.array([at], np.int64)) for key, at in bounds.items()]
    replace_node(node, "Slice", [wide.outputs[0], *limits], {}, domain="")


def _graph(node: ir.Node) -> ir.Graph:
    if not isinstance(node.graph, ir.Graph):
        raise InputError("node outside of the main graph", where=node.name, hint="export without control flow")
    return node.graph
