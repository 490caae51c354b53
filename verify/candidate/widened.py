"""Products with codes as products with numbers: the same results, and no matrix is widened again at every call.

Where nothing is rounded onnxruntime has no fast product with codes: it widens the whole matrix at every call, 253 ms
for one token where the matrix in float32 takes 19 (docs/decisions/0019). Each matrix is what its own node makes of an
identity matrix, so that whatever is wrong with codes, scales or attributes stays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from verify.check import Array

OPERANDS = {"MatMulNBits": 5, "MatMulBnb4": 3}  # operators that multiply with codes: how many inputs come before a bias
SCALES = 2  # the input that says which type such a product computes in
LARGEST = 2**30  # bytes of float32 that this takes: a model with more is asked as it is, for want of memory
ELSEWHERE = "given to the session"


@dataclass(frozen=True)
class _Product:
    node: onnx.NodeProto
    depth: int  # K: the matrix is float32 [depth, width]
    width: int  # N

    @property
    def matrix(self) -> str:
        """The name of the matrix: a value's name with a suffix that no other value has."""
        return f"{self.node.output[0]}:matrix"


def widen(model: onnx.ModelProto, open_session: Callable[[bytes], onnxruntime.InferenceSession]) -> Mapping[str, Array]:
    """Change a model's products with stored codes in place; the matrices, float32, by the names they are read by.

    Nothing, and an unchanged model, where there are none or where they would take more than LARGEST bytes. The model
    only names its matrices: whoever opens it gives them to the session. Raises what onnxruntime raises.
    """
    products = _products(model.graph)
    depths = {found.depth for found in products}
    numbers = sum(found.depth * found.width for found in products) + sum(depth * depth for depth in depths)
    if not products or 4 * numbers > LARGEST:
        return {}
    session = open_session(_asking(model, products).SerializeToString())
    identities = {_identity(depth): np.eye(depth, dtype=np.float32) for depth in depths}
    matrices = dict(zip((found.matrix for found in products), session.run(None, identities), strict=True))
    replaced = {found.node.output[0]: _with_numbers(found) for found in products}
    nodes = [new for node in model.graph.node for new in replaced.get(node.output[0] if node.output else "", [node])]
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    model.graph.initializer.extend(_named(found) for found in products)
    return matrices


def _products(graph: onnx.GraphProto) -> list[_Product]:
    """Products in float32 of which every operand but the first is stored."""
    stored = {entry.name: entry for entry in graph.initializer}
    found = []
    for node in graph.node:
        operands = [name for name in node.input[1:] if name]
        if node.op_type not in OPERANDS or not all(name in stored for name in operands):
            continue
        sizes = {entry.name: entry.i for entry in node.attribute}
        whole = sizes.get("K", 0) > 0 and sizes.get("N", 0) > 0 and len(node.input) > SCALES
        if whole and stored[node.input[SCALES]].data_type == TensorProto.FLOAT:
            found.append(_Product(node, sizes["K"], sizes["N"]))
    return found


def _asking(model: onnx.ModelProto, products: Sequence[_Product]) -> onnx.ModelProto:
    """A model of the products alone, without what they add: the matrix of each from an identity matrix."""
    nodes = []
    for found in products:
        node = onnx.NodeProto()
        node.CopyFrom(found.node)
        node.input[:] = [_identity(found.depth), *_operands(found.node)[0]]
        node.output[:] = [found.matrix]
        nodes.append(node)
    read = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "matrices",
        [
            helper.make_tensor_value_info(_identity(depth), TensorProto.FLOAT, [depth, depth])
            for depth in sorted({found.depth for found in products})
        ],
        [helper.make_tensor_value_info(found.matrix, TensorProto.FLOAT, None) for found in products],
        [entry for entry in model.graph.initializer if entry.name in read],
    )
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def _operands(node: onnx.NodeProto) -> tuple[list[str], str]:
    """Return the names of what is multiplied with, and the name of what is added ("" for nothing)."""
    place = OPERANDS[node.op_type]
    return [*node.input[1:place]], node.input[place] if len(node.input) > place else ""


def _with_numbers(found: _Product) -> list[onnx.NodeProto]:
    """The nodes that take a product's place, under its own name."""
    node, (_, bias) = found.node, _operands(found.node)
    result = node.output[0]
    product = f"{result}:product" if bias else result
    made = [helper.make_node("MatMul", [node.input[0], found.matrix], [product], name=node.name)]
    return [*made, helper.make_node("Add", [product, bias], [result], name=f"{node.name}/bias")] if bias else made


def _named(found: _Product) -> TensorProto:
    """The matrix as external data that lies in no file."""
    named = TensorProto(name=found.matrix, data_type=TensorProto.FLOAT, dims=[found.depth, found.width])
    named.data_location = TensorProto.EXTERNAL
    named.external_data.add(key="location", value=ELSEWHERE)
    named.external_data.add(key="length", value=str(4 * math.prod(named.dims)))
    return named


def _identity(depth: int) -> str:
    return f"identity:{depth}"
