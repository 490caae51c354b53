"""Find which values of a graph are float32, from the operators' schemas."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import onnx
import onnx_ir as ir

from pipeline.errors import InputError
from quantize.rewrite.weights import DOMAIN

FLOAT, FLOAT16 = "tensor(float)", "tensor(float16)"


def float_values(model: ir.Model) -> dict[ir.Value, None]:
    """Every float32 value of the graph as an ordered set; nodes must be in topological order.

    Types that the file records for intermediate values are not used: they may be missing, or stale after a change.
    InputError for an operator that onnx has no schema for.
    """
    known = [*model.graph.inputs, *model.graph.initializers.values()]
    floats = dict.fromkeys(value for value in known if value.dtype == ir.DataType.FLOAT)
    for node in model.graph:
        outputs = [value for i, value in enumerate(node.outputs) if _output_is_float(model, node, i, floats)]
        floats.update(dict.fromkeys(outputs))
    return floats


def has_float16(model: ir.Model, node: ir.Node) -> bool:
    """Return whether the operator admits float16 wherever it admits float32, in the inputs and outputs it has here."""
    if node.domain == DOMAIN:
        return True  # so say onnxruntime's schemas of all its operators that convert and quantize write
    schema = _schema(model, node)
    kinds = [_port_type(schema.inputs, i) for i, value in enumerate(node.inputs) if value is not None]
    kinds += [_port_type(schema.outputs, i) for i in range(len(node.outputs))]
    admitted = [_allowed(schema, kind) for kind in kinds]
    return all(FLOAT16 in types for types in admitted if FLOAT in types)


def _output_is_float(model: ir.Model, node: ir.Node, index: int, floats: Collection[ir.Value | None]) -> bool:
    if node.domain == DOMAIN:
        return True  # the operators that convert and quantize write compute floats
    if node.op_type == "Cast":
        return node.attributes["to"].as_int() == ir.DataType.FLOAT
    if node.op_type in ("Constant", "ConstantOfShape"):
        return _constant_is_float(node)
    schema = _schema(model, node)
    kind = _port_type(schema.outputs, index)
    allowed = _allowed(schema, kind)
    if FLOAT not in allowed or allowed == {FLOAT}:
        return FLOAT in allowed
    same = [value for i, value in enumerate(node.inputs) if _port_type(schema.inputs, i) == kind]
    if not same:
        hint = "export without this operator"
        raise InputError(f"cannot tell the type that {node.op_type} gives", where=node.name, hint=hint)
    return any(value in floats for value in same)


def _port_type(ports: Sequence[onnx.defs.OpSchema.FormalParameter], index: int) -> str:
    return ports[min(index, len(ports) - 1)].type_str  # a variadic port is declared once, last


def _allowed(schema: onnx.defs.OpSchema, kind: str) -> set[str]:
    """The types behind a type variable of the schema; `kind` itself when it is no variable."""
    rules = {rule.type_param_str: rule.allowed_type_strs for rule in schema.type_constraints}
    return set(rules.get(kind, [kind]))


def _constant_is_float(node: ir.Node) -> bool:
    if "value" in node.attributes:
        return node.attributes["value"].as_tensor().dtype == ir.DataType.FLOAT
    return node.op_type == "ConstantOfShape" or bool({"value_float", "value_floats"} & node.attributes.keys())


def _schema(model: ir.Model, node: ir.Node) -> onnx.defs.OpSchema:
    try:
        return onnx.defs.get_schema(node.op_type, model.opset_imports[node.domain], node.domain)
    except (onnx.defs.SchemaError, KeyError) as error:
        name = f"{node.domain}.{node.op_type}".lstrip(".")
        raise InputError(f"unknown operator {name}", where=node.name, hint="export standard operators") from error
