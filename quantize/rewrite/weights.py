"""Find the weight matrices of a graph by how they are used, not by their names."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from model.contract import Dimensions
from pipeline.errors import InputError
from quantize.numerics.blocks import Floats

DOMAIN = "com.microsoft"
PRODUCTS = ("MatMul", "Gemm", "FusedMatMul")
REARRANGEMENTS = ("Cast", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")


@dataclass(frozen=True)
class Lookup:
    """Rows of a table picked by indices: the Gather, and the node whose output holds them, row after row.

    That is the Gather itself, or the Transpose after a Gather that picks the columns of a table stored [K, N].
    """

    gather: ir.Node
    node: ir.Node

    @property
    def indices(self) -> ir.Value | None:
        """Return which rows it picks, int64."""
        return self.gather.inputs[1]


@dataclass
class Weight:
    """A 2-D float32 initializer with the nodes that read it the same way round.

    Seen as [N, K]: a product multiplies with its transpose (output N wide), a lookup picks its rows.
    """

    value: ir.Value
    transposed: bool  # whether the initializer itself is [N, K]; products then turn it, or read it through a Transpose
    products: list[ir.Node] = field(default_factory=list)
    lookups: list[Lookup] = field(default_factory=list)
    twin: bool = False  # whether other nodes read the same initializer the other way round
    table: bool = False  # whether it has a row for each word of the vocabulary

    @property
    def stem(self) -> str:
        """Return how the quantized initializers' names begin; with '.T' where both ways round are read."""
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


@dataclass(frozen=True)
class Weights:
    """The weights of a graph by their part in it."""

    body: tuple[Weight, ...]  # linear layers
    tables: tuple[Weight, ...]  # one row per word of the vocabulary: embedding, lm_head, or both
    lookups: tuple[Weight, ...]  # tables that are only read by lookups: positions


def find_weights(model: ir.Model, dims: Dimensions) -> Weights:
    """The weights of a graph. InputError for a linear layer of another form, or when there is none.

    A variant that silently kept its weights would pass for a quantized one.
    """
    found: dict[tuple[str, bool], Weight] = {}
    for value in model.graph.initializers.values():
        if value.dtype == ir.DataType.FLOAT and len(tensor_of(value).shape) == 2:
            _collect(value, found)
    for (name, transposed), weight in found.items():
        weight.twin = (name, not transposed) in found
    _refuse_leftovers(model, found)
    tables = tuple(weight for weight in found.values() if weight.shape[0] == dims.vocabulary and _of_tokens(weight))
    for weight in tables:
        weight.table = True
    others = [weight for weight in found.values() if not weight.table]
    body = tuple(weight for weight in others if weight.products)
    if not body:
        hint = "report this: the architecture must write linear layers as MatMul with a constant 2-D weight"
        raise InputError("no linear layer to quantize", where=f"graph {model.graph.name}", hint=hint)
    return Weights(body, tables, tuple(weight for weight in others if not weight.products))


def tensor_of(value: ir.Value) -> ir.TensorProtocol:
    """The tensor of an initializer; InputError if it has none."""
    if value.const_value is None:
        raise InputError("initializer without a value", where=value.name, hint="convert the source again")
    return value.const_value


def _of_tokens(weight: Weight) -> bool:
    """Return whether tokens pick its rows, or its products are the logits: of as many rows others may be, by chance."""
    return any(_is_ids(look.indices) for look in weight.lookups) or any(map(_makes_logits, weight.products))


def _is_ids(value: ir.Value | None) -> bool:
    origin = _origin(value)
    return origin is not None and origin.is_graph_input() and origin.name == "input_ids"


def _makes_logits(node: ir.Node) -> bool:
    """Return whether a product is the output `logits`, but for a bias and rearrangements."""
    value = node.outputs[0]
    while not (value.is_graph_output() and value.name == "logits"):
        users = [user for user, _ in value.uses()]
        if len(users) != 1 or users[0].op_type not in ("Add", *REARRANGEMENTS):
            return False
        value = users[0].outputs[0]
    return True


def _collect(value: ir.Value, found: dict[tuple[str, bool], Weight]) -> None:
    for node, position in value.uses():
        if node.op_type == "Gather" and position == 0 and _number(node, "axis", 0) == 0:
            _weight(value, found, transposed=True).lookups.append(Lookup(node, node))
        elif node.op_type == "Gather" and position == 0 and (rows := _rows_of(node)) is not None:
            _weight(value, found, transposed=False).lookups.append(Lookup(node, rows))
        elif position == 1 and (turned := _product(node)) is not None:
            _weight(value, found, transposed=turned).products.append(node)
        elif _is_for_products(node):
            _weight(value, found, transposed=True).products += [user for user, _ in node.outputs[0].uses()]


def _rows_of(gather: ir.Node) -> ir.Node | None:
    """The Transpose that makes rows again of the columns that a Gather has picked, if it is all that reads them."""
    users = [node for node, _ in gather.outputs[0].uses()]
    if len(users) != 1 or users[0].op_type != "Transpose" or gather.outputs[0].is_graph_output():
        return None
    order = users[0].attributes.get("perm")
    places = [] if order is None else list(order.as_ints())
    return users[0] if len(places) > 1 and places == [*range(1, len(places)), 0] else None


def _product(node: ir.Node) -> bool | None:
    """Return whether a product with its second input turns that input round; None if it is no plain product."""
    if node.op_type == "MatMul":
        return False
    if node.op_type not in ("Gemm", "FusedMatMul"):
        return None
    plain = not _number(node, "transA", 0) and _number(node, "alpha", 1) == 1
    plain = plain and not _number(node, "transBatchA", 0) and not _number(node, "transBatchB", 0)
    alone = len(node.inputs) == 2 or node.inputs[2] is None
    return True if plain and alone and _number(node, "transB", 0) == 1 else None


def _refuse_leftovers(model: ir.Model, found: dict[tuple[str, bool], Weight]) -> None:
    """Every product with a constant must be among those found, and a weight found must have no other use."""
    hint = (
        "report this: the architecture must write linear layers as MatMul + Add with a 2-D weight read directly or "
        "through one Transpose, or as Gemm or FusedMatMul with transB=1 and no other attribute or third input"
    )
    products = {node for weight in found.values() for node in weight.products}
    readers = products | {lookup.gather for weight in found.values() for lookup in weight.lookups}
    for node in model.graph:
        if node.op_type in PRODUCTS and node not in products:
            for value in filter(None, map(_constant_behind, node.inputs[:2])):
                raise InputError(f"{value.name}: {node.op_type} cannot be quantized", where=node.name, hint=hint)
    for weight in found.values():
        others = [node for node, _ in weight.value.uses() if node not in readers and not _is_for_products(node)]
        if weight.products and others:
            raise InputError(f"{weight.name} has another use", where=others[0].name, hint=hint)


def _constant_behind(value: ir.Value | None) -> ir.Value | None:
    """The initializer of rank 2 or more that a value is, or is a rearrangement of."""
    origin = _origin(value)
    return origin if origin is not None and origin.is_initializer() and len(tensor_of(origin).shape) > 1 else None


def _origin(value: ir.Value | None) -> ir.Value | None:
    """The graph's input or initializer that a value is, or is a rearrangement of."""
    while value is not None and (node := value.producer()) is not None:
        value = node.inputs[0] if node.op_type in REARRANGEMENTS else None
    return value


def _weight(value: ir.Value, found: dict[tuple[str, bool], Weight], *, transposed: bool) -> Weight:
    return found.setdefault((str(value.name), transposed), Weight(value, transposed))


def _is_for_products(node: ir.Node) -> bool:
    if node.op_type != "Transpose":
        return False
    output = node.outputs[0]
    uses = output.uses()
    return bool(uses) and not output.is_graph_output() and all(u.op_type == "MatMul" and at == 1 for u, at in uses)


def _number(node: ir.Node, name: str, default: float) -> float:
    attribute = node.attributes.get(name)
    return default if attribute is None else float(attribute.value)


def _dimensions(value: ir.Value) -> tuple[int, int]:
    first, second = tensor_of(value).numpy().shape
    return first, second
