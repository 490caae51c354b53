"""A reference's module cut out of a candidate's graph, to be asked alone what it computes.

The graphs of this pipeline carry the names of PyTorch's modules: in the fused form a value is called as the module that
computes it, other programs call a node after the module that it comes from.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from verify.candidate.embedding import INTEGERS
from verify.candidate.session import Candidate
from verify.check import Array

TYPE_OF = {"GatherBlockQuantized": 2, "DequantizeLinear": 1, "Where": 1}  # the input whose type the output has
UNKNOWN = int(TensorProto.FLOAT)  # of a constant that is no tensor: no module is fed with one
BLOCK = 32  # of weights that are stored one by one: the smallest block of the quantized ones
# The operators that take or make codes in the place of numbers.
QUANTIZED = ("MatMulNBits", "MatMulBnb4", "GatherBlockQuantized", "MatMulInteger", "DynamicQuantizeLinear",
             "DynamicQuantizeMatMul", "DequantizeLinear")  # fmt: skip
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)
INDICES = ("input_ids", "position_ids")  # the graph's inputs that tables are looked up by
SHAPE = "shape of "
UNIT = 1024.0  # what a product that rounds its input less a centre is asked with: its offset's rounding is no weight's
# What rounds a product's activations belongs to the product, though it is named after the module that makes them.
ROUNDS_FOR_READER = ("DynamicQuantizeLinear",)


class Cut:
    """One module's nodes as a model of their own. Its inputs are the values that other nodes compute."""

    def __init__(self, candidate: Candidate, model: onnx.ModelProto, inputs: dict[str, int]) -> None:
        self.content = model.SerializeToString(deterministic=True)  # equal content gives equal answers
        self._candidate = candidate
        self._session: onnxruntime.InferenceSession | None = None
        self.stored = bool(model.graph.initializer)  # else no number of the file's is in it: a cast behind the module
        self._inputs = {name: helper.tensor_dtype_to_np_dtype(kind) for name, kind in inputs.items()}
        nodes = model.graph.node
        codes = [entry for entry in model.graph.initializer if entry.data_type in INTEGERS and len(entry.dims) > 1]
        self.quantized = bool(codes) or any(node.op_type in QUANTIZED for node in nodes)
        sizes = [a.i for node in nodes for a in node.attribute if a.name == "block_size"]
        # Whole matrices that are computed from codes have scales of three axes, one of them 1.
        whole = [entry for entry in model.graph.initializer if entry.data_type in FLOATS and len(entry.dims) == 3]
        self._expanded = bool(codes and whole)
        self.block = max(map(_count, codes)) // _count(whole[0]) if self._expanded else max(sizes, default=BLOCK)
        self._groups = max((entry.dims[1] for entry in codes if len(entry.dims) == 3), default=0)
        self._tensors = [entry for entry in model.graph.initializer if len(entry.dims) == 2]
        self.centre = self._subtracted(model) if self.quantized else None

    def _subtracted(self, model: onnx.ModelProto) -> Array | None:
        """Return what a linear layer takes off its input before it rounds it, float32 [in]; None for nothing.

        Such a layer is asked about inputs around it, where nothing is rounded, and then that it puts it back.
        """
        stored = {entry.name: entry for entry in model.graph.initializer if len(entry.dims) == 1}
        first = next(iter(self._inputs), None)
        names = [node.input[1] for node in model.graph.node if node.op_type == "Sub" and node.input[0] == first]
        found = next((stored[name] for name in names if name in stored), None)
        if found is None:
            return None
        return numpy_helper.to_array(found, str(self._candidate.path.parent)).astype(np.float32)

    def origin(self, width: int) -> Array:
        """Return the input of a linear layer that the others are asked about around, float32 [1, 1, in]."""
        return np.zeros((1, 1, width), np.float32) if self.centre is None else self.centre[None, None]

    def row_block(self, width: int) -> int:
        """Return how many entries of a table's row share a scale."""
        if self._expanded:
            return self.block
        return -(-width // self._groups) if self._groups else self.block

    def run(self, value: Array) -> Array:
        """The module's answer, float32; a second input, such as the residual that a norm adds, is given zeros."""
        if self._session is None:
            self._session = self._candidate.open(self.content)
        feeds = {
            name: (value if number == 0 else np.zeros_like(value)).astype(dtype)
            for number, (name, dtype) in enumerate(self._inputs.items())
        }
        (answer,) = self._session.run(None, feeds)
        return np.asarray(answer, np.float32)

    def matrix(self, shape: tuple[int, ...]) -> Array | None:
        """The one matrix of this shape (or turned) that the module holds as numbers, float32; None if it does not.

        Reading it spares a whole identity matrix; whether the module uses it so, a few of its rows must show.
        """
        if self.quantized or len(self._tensors) != 1:
            return None
        found = numpy_helper.to_array(self._tensors[0], str(self._candidate.path.parent)).astype(np.float32)
        turned = found.shape != shape
        return None if turned and found.shape != shape[::-1] else found.T if turned else found


class Cuts:
    """The modules of a candidate's graph by the names of the reference's."""

    def __init__(self, candidate: Candidate) -> None:
        self._candidate = candidate
        self._model = onnx.load(candidate.path, load_external_data=False)
        graph = self._model.graph
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}
        self._ports = {port.name: port for port in graph.input if port.name not in self._tensors}
        self._makers = {name: node for node in graph.node for name in node.output if name}
        self._sources = self._inputs_behind()

    def find(self, module: str, value: str | None = None, *, lookup: bool = False) -> Cut | None:
        """The named module; None if no node bears its name. `value` is what it computes, if not called as the module.

        A lookup is asked from the graph's own input on: what happens to ids or positions before it is part of it.
        """
        target = self._value(value or module)
        if target is None:
            return None
        nodes, tensors, inputs = self._ancestors(target, (module, value or module), lookup=lookup)
        types = {name: self._element_type(name) for name in inputs}
        graph = helper.make_graph(
            nodes,
            module,
            [helper.make_tensor_value_info(name, kind, None) for name, kind in types.items()],
            [onnx.ValueInfoProto(name=target)],
            [self._tensors[name] for name in tensors],
        )
        versions = self._model.opset_import
        cut = helper.make_model(graph, opset_imports=versions, ir_version=self._model.ir_version)
        return Cut(self._candidate, cut, types)

    def _value(self, name: str) -> str | None:
        """The value that a module computes: the one of its name, or of the last of its nodes that reads an input.

        The others make constants, such as a table's numbers from its codes.
        """
        if name in self._makers:
            return name
        aside = ("Cast", *ROUNDS_FOR_READER)
        own = (node for node in self._model.graph.node if _within(node, name) and node.op_type not in aside)
        return next((node.output[0] for node in reversed([*own]) if node.output[0] in self._sources), None)

    def _ancestors(
        self, target: str, names: tuple[str, ...], *, lookup: bool
    ) -> tuple[list[Any], list[str], list[str]]:
        """Nodes in order, initializers, and inputs of the part of the graph that a module is, by any of its names."""
        chosen, tensors, inputs, waiting = set(), dict[str, None](), dict[str, None](), [(target, False)]
        while waiting:
            name, of_index = waiting.pop(0)
            node, index = self._makers.get(name), lookup and self._is_index(name, shape=of_index)
            if name in self._tensors:
                tensors[name] = None
            elif node is None or not (
                _within(node, *names)
                or name == target
                or name not in self._sources
                or index
                or node.op_type in ROUNDS_FOR_READER
            ):
                inputs[name] = None
            elif id(node) not in chosen:
                chosen.add(id(node))
                waiting += [(entry, index) for entry in node.input if entry]
        chosen |= {id(self._makers[name]) for name in inputs if self._is_copy(name, inputs)}
        nodes = [node for node in self._model.graph.node if id(node) in chosen]
        return nodes, list(tensors), [name for name in inputs if id(self._makers.get(name)) not in chosen]

    def _is_copy(self, name: str, inputs: Collection[str]) -> bool:
        """Return whether an input is another one in another type: the two products of 6 bits in a float16 graph."""
        node = self._makers.get(name)
        return node is not None and node.op_type == "Cast" and node.input[0] in inputs

    def _inputs_behind(self) -> dict[str, frozenset[str]]:
        """Of values that depend on what the graph is fed, on which inputs, or (SHAPE) on the shape of which.

        All other values are constants, whoever computes them.
        """
        found = {port: frozenset([port]) for port in self._ports}
        for node in self._model.graph.node:
            behind = frozenset[str]().union(*(found.get(name, ()) for name in node.input))
            if any(attribute.HasField("g") for attribute in node.attribute):
                behind |= {node.op_type}  # its inner graph may read anything
            if node.op_type in ("Shape", "Size"):
                behind = frozenset(name if name.startswith(SHAPE) else SHAPE + name for name in behind)
            if behind:
                found.update(dict.fromkeys(node.output, behind))
        return found

    def _is_index(self, name: str, *, shape: bool) -> bool:
        """Return whether a value is made from ids alone, or from positions alone; or, if `shape`, from their shape."""
        behind = self._sources.get(name, frozenset())
        return any(behind <= {port, SHAPE + port} and (shape or port in behind) for port in INDICES)

    def _element_type(self, name: str) -> int:
        """The type of a value's elements, which files do not state: that of what it is computed from."""
        while (node := self._makers.get(name)) is not None:
            cast = [attribute.i for attribute in node.attribute if node.op_type == "Cast" and attribute.name == "to"]
            if cast:
                return int(cast[0])
            if node.op_type in ("Shape", "Size"):
                return int(TensorProto.INT64)
            if node.op_type == "Constant":
                return next((int(entry.t.data_type) for entry in node.attribute if entry.HasField("t")), UNKNOWN)
            name = node.input[TYPE_OF.get(node.op_type, 0)]
        if name in self._tensors:
            return int(self._tensors[name].data_type)
        return int(self._ports[name].type.tensor_type.elem_type)


def rows_of(cut: Cut, width: int, *, every: int = 1) -> Iterator[tuple[slice, Array]]:
    """Yield what a linear module makes of an identity matrix, a piece of whole blocks at a time: float32 [rows, out].

    `every` n asks for one row in n. Of one with a centre, its rows alone: a bias is not among them.
    """
    base = None if cut.centre is None else cut.run(cut.origin(width))
    step = max(256 // cut.block, 1) * cut.block * every
    for start in range(0, width, step):
        piece = slice(start, min(start + step, width), every)
        places = np.arange(width)[piece]
        identity = np.zeros((1, len(places), width), np.float32)
        identity[0, np.arange(len(places)), places] = 1
        if base is None:
            yield piece, cut.run(identity)[0]
        else:
            yield piece, (cut.run(cut.origin(width) + UNIT * identity) - base)[0] / np.float32(UNIT)


def entries_of(cut: Cut, count: int) -> Iterator[tuple[slice, Array]]:
    """Every entry of a table, some thousand at a time: float32 [entries, width]."""
    for start in range(0, count, 4096):
        piece = slice(start, min(start + 4096, count))
        yield piece, cut.run(np.arange(piece.start, piece.stop)[None])[0]


def _within(node: Any, *modules: str) -> bool:
    name = str(node.name).replace("/", ".").lstrip(".")
    return name.startswith(tuple(f"{module}." for module in modules))


def _count(tensor: onnx.TensorProto) -> int:
    return math.prod(tensor.dims)
