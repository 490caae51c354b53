"""Put quantized weights into a graph: MatMulNBits for products, and what they share with lookups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from pipeline.errors import InputError
from quantize.numerics.blocks import Blocks, Floats, Part, dequantize, parts
from quantize.rewrite.weights import DOMAIN, Weight, tensor_of

DOMAIN_VERSION = 1
LABELS = {1: ("",), 2: (".high", ".low")}  # of the parts of a weight, in the names of initializers and nodes
TIERS = {1: ("",), 2: (".frequent", ".rest")}  # and of its tiers of rows


@dataclass(frozen=True)
class Operation:
    """A node to be made: operator, inputs, attributes, domain."""

    kind: str
    inputs: Sequence[ir.Value | None]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    domain: str = DOMAIN


@dataclass(frozen=True)
class Stored:
    """One part of a tier in the graph: the inputs of the operators that read it."""

    part: Part
    label: str
    codes: ir.Value  # uint8 [N, blocks, bytes]
    scales: ir.Value  # float32 [N, blocks], shared by the parts
    zero_points: ir.Value | None


@dataclass(frozen=True)
class Tier:
    """Rows of a weight that are stored alike; most weights are one tier."""

    stem: str  # of its initializers' names
    label: str
    blocks: Blocks
    parts: Sequence[Stored]
    offset: Floats | None  # what is added to products of an input less its centre, float32 [N]


@dataclass(frozen=True)
class Spot:
    """State where nodes are put: before one node of a model, under one name."""

    model: ir.Model
    node: ir.Node
    name: str

    def op(self, kind: str, name: str, *inputs: ir.Value | None, **attributes: Any) -> ir.Value:
        """A node of an operator of ONNX; its output is called like it."""
        return insert(self.node, Operation(kind, inputs, attributes, domain=""), f"{self.name}/{name}")

    def numbers(self, name: str, values: Sequence[int]) -> ir.Value:
        """A constant of int64 numbers."""
        return initializer(self.model, name, np.array(values, np.int64))

    def number(self, value: float) -> ir.Value:
        """A constant float32 number."""
        return initializer(self.model, f"number.{value:g}", np.array(value, np.float32))


def store(model: ir.Model, weight: Weight, blocks: Blocks, level: int, centre: Floats | None = None) -> list[Tier]:
    """Replace every product with a weight by one with its quantized form, which is returned for lookups to share.

    The initializers are `<name>.q<bits>` uint8 [N, blocks, bytes] (at 6 bits `.q6.high` and `.q6.low`),
    `<name>.scales` float32 [N, blocks] and, unless symmetric, `<name>.zero_points` uint8. Where first rows have more
    bits, there are two of each, `<name>.frequent.*` and `<name>.rest.*`. `level` is the products' accuracy_level: 4
    rounds activations to int8, per row and block; 0 keeps them float.

    With `centre` c, float32 [K], products with W are made of x - c, and get W c as a bias: the same function, but what
    is rounded is smaller where inputs have a mean. The initializers are `<name>.centre` and `<name>.offset` [N].
    """
    model.opset_imports[DOMAIN] = DOMAIN_VERSION
    labels = TIERS[len(blocks.tiers)]
    tiers = [
        _tier(model, f"{weight.stem}{label}", label, tier, centre)
        for label, tier in zip(labels, blocks.tiers, strict=True)
    ]
    for node in weight.products:
        operand = node.inputs[0] if centre is None else _centred(model, node, weight.stem, centre)
        if len(tiers) == 1:
            _product(model, node, operand, tiers[0], level)
        else:
            _joined_products(model, node, operand, tiers, level)
    return tiers


def not_finite(weight: Weight, error: ValueError) -> InputError:
    """The refusal of a weight that has no finite grid."""
    return InputError(
        f"{weight.name}: {error}",
        where="fp32 graph",
        hint="convert the source again: a checkpoint with NaN or Inf is refused there",
    )


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


def replace_node(old: ir.Node, operation: Operation) -> ir.Node:
    """Put a new node in the place of `old`, under the same node name and output name."""
    output = old.outputs[0]
    new = ir.node(
        operation.kind,
        operation.inputs,
        operation.attributes,
        domain=operation.domain,
        name=old.name,
        outputs=[ir.Value(name=output.name)],
    )
    new.outputs[0].shape, new.outputs[0].type = output.shape, output.type
    old.append(new)
    output.replace_all_uses_with(new.outputs[0], replace_graph_outputs=True)
    _graph(old).remove(old, safe=True)
    return new


def _tier(model: ir.Model, stem: str, label: str, blocks: Blocks, centre: Floats | None) -> Tier:
    # The offset is of what is stored, not of the weight that it stands for: else the function would be another.
    offset = None if centre is None else (dequantize(blocks) @ centre.astype(np.float64)).astype(np.float32)
    return Tier(stem, label, blocks, _store(model, stem, blocks), offset)


def _centred(model: ir.Model, node: ir.Node, stem: str, centre: Floats) -> ir.Value:
    """A product's input less its centre."""
    known = initializer(model, f"{stem}.centre", centre)
    return insert(node, Operation("Sub", [node.inputs[0], known], domain=""), f"{node.name}/centred")


def _store(model: ir.Model, stem: str, blocks: Blocks) -> list[Stored]:
    scales = initializer(model, f"{stem}.scales", blocks.scales)
    found = parts(blocks)
    result = []
    for part, label in zip(found, LABELS[len(found)], strict=True):
        codes = initializer(model, f"{stem}.q{blocks.form.bits}{label}", part.packed)
        zeros = part.zero_points
        points = None if zeros is None else initializer(model, f"{stem}.zero_points", zeros)
        result.append(Stored(part, label, codes, scales, points))
    return result


def _product(model: ir.Model, node: ir.Node, operand: ir.Value | None, tier: Tier, level: int) -> None:
    """The product with a weight of one tier; a bias that the graph adds after it is taken in."""
    add, bias = _bias(node, len(tier.blocks.scales))
    last = node if add is None else add
    name = str(node.name)
    new = replace_node(last, _sum(Spot(model, last, name), operand, tier, level, bias))
    new.name = name
    if add is not None:
        _graph(node).remove(node, safe=True)


def _joined_products(
    model: ir.Model, node: ir.Node, operand: ir.Value | None, tiers: Sequence[Tier], level: int
) -> None:
    """The products with each tier, one after the other along the last axis. A bias stays where it is added."""
    columns = []
    for tier in tiers:
        own = Spot(model, node, f"{node.name}{tier.label}")
        columns.append(insert(node, _sum(own, operand, tier, level), f"{own.name}/columns"))
    replace_node(node, Operation("Concat", columns, {"axis": -1}, domain=""))


def _sum(spot: Spot, operand: ir.Value | None, tier: Tier, level: int, bias: ir.Value | None = None) -> Operation:
    """One MatMulNBits for each part, the bias with the first; more than one are added up."""
    blocks = tier.blocks
    if tier.offset is not None:
        own = 0 if bias is None else tensor_of(bias).numpy()
        bias = initializer(spot.model, f"{tier.stem}.offset", tier.offset + own)
    sizes = {"K": blocks.columns, "N": len(blocks.scales), "block_size": blocks.form.block, "accuracy_level": level}
    terms: list[Operation] = []
    for item in tier.parts:
        source = operand
        if item.part.factor != 1:
            source = insert(spot.node, times(spot.model, operand, item), f"{spot.name}/Mul")
        inputs = [source, item.codes, item.scales, item.zero_points, None, None if terms else bias]
        while inputs[-1] is None:
            inputs.pop()
        terms.append(Operation("MatMulNBits", inputs, {**sizes, "bits": item.part.bits}))
    if len(terms) == 1:
        return terms[0]
    names = [f"{spot.name}/MatMulNBits{item.label}" for item in tier.parts]
    sums = [insert(spot.node, term, name) for term, name in zip(terms, names, strict=True)]
    return Operation("Add", sums, domain="")


def _bias(node: ir.Node, width: int) -> tuple[ir.Node | None, ir.Value | None]:
    """The Add that follows a product and its constant [width], when the Add is all that reads the product.

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


def times(model: ir.Model, source: ir.Value | None, item: Stored) -> Operation:
    """A value times the factor of a part."""
    factor = item.part.factor
    return Operation("Mul", [source, initializer(model, f"factor.{factor:g}", np.array(factor, np.float32))], domain="")


def insert(node: ir.Node, operation: Operation, name: str) -> ir.Value:
    """A new node of this name before another one; its output, of the same name."""
    new = ir.node(operation.kind, operation.inputs, operation.attributes, domain=operation.domain, name=name)
    new.outputs[0].name = name
    node.prepend(new)
    return new.outputs[0]


def _graph(node: ir.Node) -> ir.Graph:
    if not isinstance(node.graph, ir.Graph):
        raise InputError("node outside of the main graph", where=node.name, hint="export without control flow")
    return node.graph
