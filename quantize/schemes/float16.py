"""Weights and arithmetic in float16; the graph's inputs and outputs stay float32.

onnxruntime.transformers.float16 is not used: it clamps weights that overflow instead of refusing them, raises tiny
ones to 6e-8, casts around nodes by a fixed list, and trusts the types that the file records.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir

from pipeline.errors import InputError, RecipeError
from pipeline.typed import did_you_mean
from quantize.rewrite.floats import float_values, has_float16
from quantize.rewrite.weights import tensor_of
from quantize.scheme import Context

CALIBRATED = False
LARGEST = 65504.0
SUFFIX = {ir.DataType.FLOAT16: "/float16", ir.DataType.FLOAT: "/float32"}
TYPE_BLIND = ("Shape", "Size")  # they read no elements, so they need no cast
FUSED = ("FastGelu", "QuickGelu", "RotaryEmbedding")  # of onnxruntime, in fused graphs
FLOAT32_OPERATORS = (
    "Add",
    "Cos",
    "CumSum",
    "Div",
    "Erf",
    "Exp",
    "FastGelu",
    "Gelu",
    "HardSigmoid",
    "LayerNormalization",
    "LeakyRelu",
    "Mul",
    "Pow",
    "QuickGelu",
    "ReduceMean",
    "RotaryEmbedding",
    "Sigmoid",
    "Sin",
    "Softmax",
    "Softplus",
    "Sqrt",
    "Sub",
    "Tanh",
)


@dataclass(frozen=True)
class Options:
    """`float32` names the operators that stay in float32 between casts.

    By default weights and products with them are float16; sums, activations, rotations, normalizations and softmax are
    not. So the residual stream and GELU's cube cannot overflow, the angle of a late position keeps its digits, and
    softmax over a long text keeps its small terms. It also
    keeps a fault of onnxruntime 1.31.1 away: a float16 MatMulNBits between two operators without float16 kernels on
    the CPU is widened with its scales cast at run time, which accuracy_level 4 does not read (decision 0004).
    Every other operator, a move of data or a product of two computed values, keeps the type in which its values come,
    float32 where they come in both: attention beside a float32 cache is float32, without a cast of the cache.
    """

    float32: tuple[str, ...] = FLOAT32_OPERATORS

    def check(self, where: str) -> None:
        """Raise RecipeError for a name that is no operator of ONNX or of the fused graph."""
        known = {schema.name for schema in onnx.defs.get_all_schemas()}.union(FUSED)
        for name in self.float32:
            if name not in known:
                close = did_you_mean(name, known).partition("; ")[2] or "write the name of an ONNX operator"
                raise RecipeError(f"{name!r} is not an operator", where=f"{where}: float32", hint=close)


def apply(model: ir.Model, options: Options, context: Context) -> None:  # noqa: ARG001 (every scheme has it)
    """Convert float32 values to float16, with casts at graph inputs, graph outputs and float32 operators.

    Raises InputError, naming the weight, for magnitudes above 65504. `context` is not needed.
    """
    graph = model.graph
    graph.sort()
    floats = float_values(model)
    wide = _wide(model, options, floats)
    fixed = {*graph.inputs, *(value for node in wide for value in node.outputs)}  # float32 from their origin on
    outputs = [(i, value) for i, value in enumerate(graph.outputs) if value in floats and value not in fixed]
    for node in graph:
        if node not in wide:
            _narrow_attributes(node)
    for value in floats:
        uses = [use for use in value.uses() if use.node.op_type not in TYPE_BLIND]
        if value in fixed:
            _cast(graph, value, ir.DataType.FLOAT16, [use for use in uses if use.node not in wide])
        elif not value.is_initializer() or any(user not in wide for user, _ in uses):
            _narrow(value)
            _cast(graph, value, ir.DataType.FLOAT, [use for use in uses if use.node in wide])
    for index, value in outputs:
        _widen_output(graph, index, value)
    _drop_casts(graph)
    graph.sort()


def _wide(model: ir.Model, options: Options, floats: Collection[ir.Value]) -> set[ir.Node]:
    """The nodes that stay float32, nodes being in topological order.

    Among them one that reads a float32 value and no weight, itself or through operators that read nothing else; and a
    Cast of positions, which have more digits than float16.
    """
    wide: set[ir.Node] = set()
    constant: set[ir.Value] = set(model.graph.initializers.values())
    for node in model.graph:
        inputs = [value for value in node.inputs if value is not None]
        if all(value in constant for value in inputs):
            constant.update(node.outputs)
        read = [value for value in inputs if value in floats and not _number(value)]
        float32 = any(value.is_graph_input() or value.producer() in wide for value in read)
        kept = float32 and constant.isdisjoint(read) and node.op_type != "Cast"
        if node.op_type in options.float32 or not has_float16(model, node) or kept or _of_integers(node, floats):
            wide.add(node)
    return wide


def _of_integers(node: ir.Node, floats: Collection[ir.Value]) -> bool:
    """Return whether a node makes floats of a graph input of integers."""
    source = node.inputs[0] if node.op_type == "Cast" else None
    return source is not None and source.is_graph_input() and source not in floats and node.outputs[0] in floats


def _number(value: ir.Value) -> bool:
    """Return whether a value is a constant of one element, which is no weight."""
    return value.is_initializer() and tensor_of(value).size == 1


def _narrow(value: ir.Value) -> None:
    value.type = ir.TensorType(ir.DataType.FLOAT16)
    if value.is_initializer():
        value.const_value = _float16(str(value.name), tensor_of(value).numpy())


def _float16(name: str, array: np.typing.NDArray[np.float32]) -> ir.TensorProtocol:
    """Rounded to nearest; what is below half of the smallest float16 (6e-8) becomes zero."""
    peak = float(np.abs(array).max(initial=0.0))
    if not peak <= LARGEST:
        hint = "leave float16 out of the steps for this checkpoint"
        raise InputError(f"{name} reaches {peak:g}, float16 ends at {LARGEST:g}", where="fp32 graph", hint=hint)
    return ir.tensor(array.astype(np.float16), name=name)


def _narrow_attributes(node: ir.Node) -> None:
    """Turn to float16 what a node's attributes say is float32: a Cast's target, a constant's value."""
    if node.op_type == "Cast" and node.attributes["to"].as_int() == ir.DataType.FLOAT:
        node.attributes["to"] = ir.AttrInt64("to", ir.DataType.FLOAT16)
    if node.op_type not in ("Constant", "ConstantOfShape"):
        return
    key = next(iter(node.attributes), None)
    if key is None:
        array = np.zeros(1, np.float32)  # the default of ConstantOfShape
    elif key in ("value_float", "value_floats"):
        array = np.array(node.attributes[key].value, np.float32)
    elif key == "value" and node.attributes[key].as_tensor().dtype == ir.DataType.FLOAT:
        array = node.attributes[key].as_tensor().numpy()
    else:
        return
    node.attributes.pop(key or "value", None)
    node.attributes["value"] = ir.AttrTensor("value", _float16(str(node.outputs[0].name), array))


def _cast(graph: ir.Graph, value: ir.Value, to: ir.DataType, uses: Sequence[tuple[ir.Node, int]]) -> None:
    """Let these uses of a value read it through one Cast."""
    if not uses:
        return
    node = ir.node("Cast", [value], {"to": to}, name=f"{value.name}/Cast{SUFFIX[to]}")
    node.outputs[0].name = f"{value.name}{SUFFIX[to]}"
    graph.append(node)
    for user, position in uses:
        user.replace_input_with(position, node.outputs[0])


def _widen_output(graph: ir.Graph, index: int, value: ir.Value) -> None:
    """Give a graph output back its type; the name stays with the output."""
    name = str(value.name)
    value.name = f"{name}{SUFFIX[ir.DataType.FLOAT16]}"
    output = ir.Value(name=name, shape=value.shape, type=ir.TensorType(ir.DataType.FLOAT))
    graph.append(ir.node("Cast", [value], {"to": ir.DataType.FLOAT}, name=f"{name}/Cast", outputs=[output]))
    graph.outputs[index] = output


def _drop_casts(graph: ir.Graph) -> None:
    """Remove casts from float16 to float16, which were from float32 to float32 before."""
    for node in list(graph):
        source = node.inputs[0] if node.op_type == "Cast" else None
        if source is None or source.dtype != ir.DataType.FLOAT16 or node.outputs[0].is_graph_output():
            continue
        if node.attributes["to"].as_int() == ir.DataType.FLOAT16:
            node.outputs[0].replace_all_uses_with(source)
            graph.remove(node, safe=True)
