"""A foreign graph laid open: which tensor is which of the reference's, and the graph cut at all of them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnx

from verify.candidate.embedding import INTEGERS, LOOKUPS, PRODUCTS
from verify.check import Array

TRUE = "@true"  # what a cut tensor's input is called
CASTS = ("/float16", "/float32")  # endings of the names that quantize's float16 scheme gives to casts
# What a weight that quantize has stored in parts is called: of 6 bits the two that are added up, of a table whose first
# rows have more bits its two tiers. The product or lookup of one means nothing alone.
PART = re.compile(r"\.(high|low)$|\.(frequent|rest)\.(q\d+|scales|zero_points)\b")
NORMS = ("LayerNormalization", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization")


@dataclass(frozen=True)
class Graph:
    """An ONNX model with what makes and what reads each tensor."""

    model: Any
    makers: Mapping[str, Any]
    readers: Mapping[str, list[Any]]
    constants: Mapping[str, Any]  # initializers and Constant nodes: name -> TensorProto
    directory: Path  # in which external data lies

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file, but not its external data; raises whatever onnx raises for one that is none."""
        return cls.of(onnx.load(path, load_external_data=False), path.parent)

    @classmethod
    def of(cls, model: Any, directory: Path) -> Self:
        """A loaded model, whose external data lies in `directory`."""
        readers: dict[str, list[Any]] = defaultdict(list)
        for node in model.graph.node:
            for name in node.input:
                readers[name].append(node)
        constants = {tensor.name: tensor for tensor in model.graph.initializer}
        for node in model.graph.node:
            if node.op_type == "Constant":
                constants.update((node.output[0], a.t) for a in node.attribute if a.name == "value")
        makers = {name: node for node in model.graph.node for name in node.output if name}
        return cls(model, makers, readers, constants, directory)

    def array(self, name: str) -> Array:
        """A constant's numbers, wherever they are stored."""
        value: Array = onnx.numpy_helper.to_array(self.constants[name], str(self.directory))
        return value

    @property
    def tensors(self) -> list[str]:
        """Return what nodes compute, in the graph's order; constants are not computed."""
        return [name for name in self.makers if name not in self.constants]

    def label(self, node: Any) -> str:
        """A node's name, or what it makes when it has none."""
        return str(node.name or node.output[0])


def parameters_of(graph: Graph, parameters: Mapping[str, Array]) -> dict[str, str]:
    """Find which parameter of the reference each constant is (or is a part of): by its name, else by its values."""
    by_size: dict[int, list[str]] = defaultdict(list)
    for name, value in parameters.items():
        by_size[value.size].append(name)
    longest = sorted(parameters, key=len, reverse=True)
    found = {}
    for name in graph.constants:
        stem = next((p for p in longest if name == p or name.startswith(f"{p}.")), None)
        found[name] = stem or _by_value(graph, name, by_size, parameters)
    return {name: parameter for name, parameter in found.items() if parameter is not None}


def _by_value(
    graph: Graph, constant: str, by_size: Mapping[int, list[str]], parameters: Mapping[str, Array]
) -> str | None:
    tensor = graph.constants[constant]
    size = int(np.prod(tensor.dims)) if tensor.dims else 1
    if size < 2 or tensor.data_type != onnx.TensorProto.FLOAT or not by_size.get(size):
        return None
    value = graph.array(constant)
    for name in by_size[size]:
        wanted = parameters[name]
        if any(v.shape == wanted.shape and np.array_equal(v, wanted) for v in (value, value.T)):
            return name
    return None


def anchors(graph: Graph, known: Mapping[str, Any], parameters: Mapping[str, str], embedding: str) -> dict[str, str]:
    """Find which true tensor each computed one is: by its name, its node's scope, or the parameters that it meets.

    A product with the table of the module `embedding` is the head of a model that has it tied.

    Names come first: a graph of `convert` says by name what every tensor should be. In another graph, a tensor is a
    module's input or output because of the module's weights that its node reads.
    """
    found: dict[str, str] = {}
    for name in graph.tensors:
        plain = name
        for ending in CASTS:
            plain = plain.removesuffix(ending)
        if plain in known:
            found[name] = plain
    for node in graph.model.graph.node:
        for name, role in _roles(node, parameters, embedding):
            if role in known and name in graph.makers and name not in graph.constants:
                found.setdefault(name, role)
    for name, role in _scopes(graph):
        if role in known:
            found.setdefault(name, role)
    return found


def _roles(node: Any, parameters: Mapping[str, str], embedding: str) -> Iterator[tuple[str, str]]:
    """(tensor, true tensor) that a node's own parameters tell."""
    read = [parameters[name] for name in node.input if name in parameters]
    if not read or any(map(PART.search, node.input)):
        return
    module = read[0].rpartition(".")[0]
    weight, bias = f"{module}.weight" in read, f"{module}.bias" in read
    if node.op_type in NORMS and weight:
        if node.op_type == "LayerNormalization":
            yield node.input[0], f"in.{module}"
        yield node.output[0], f"out.{module}"
        if len(node.output) > 3 and node.output[3]:
            yield node.output[3], f"in.{module}"
    elif node.op_type in LOOKUPS and node.input[0] in parameters and not _part_looked_up(node, read[0]):
        yield node.output[0], f"out.{module}"
    elif node.op_type in PRODUCTS and weight and module == embedding:
        yield node.output[0], "logits"
    elif node.op_type in PRODUCTS and weight:
        yield node.input[0], f"in.{module}"
        yield node.output[0], f"out.{module}" if bias else f"{module}.product"
    elif node.op_type == "Add" and bias:
        yield node.output[0], f"out.{module}"


def _part_looked_up(node: Any, parameter: str) -> bool:
    """Return whether ONNX's own Gather looks up codes or scales of a table, which other nodes put together."""
    return bool(node.op_type == "Gather" and node.input[0].startswith(f"{parameter}."))


def decoded(graph: Graph, anchored: Mapping[str, str]) -> frozenset[str]:
    """Tensors that are made of a weight's codes, up to the first whose true value is known: they err by rounding."""
    codes = {n for n, t in graph.constants.items() if t.data_type in INTEGERS and len(t.dims) > 1}
    found: set[str] = set()
    for node in graph.model.graph.node:
        if any(name in codes or (name in found and name not in anchored) for name in node.input):
            found.update(name for name in node.output if name)
    return frozenset(found)


def _scopes(graph: Graph) -> Iterator[tuple[str, str]]:
    """Outputs of whole modules in graphs whose node names are paths such as /model/layers.0/mlp/act/Mul_3.

    What leaves a module's scope, with the modules inside it, is the module's output, if it is one tensor only.
    """
    leaving: dict[str, list[str]] = defaultdict(list)
    for node in graph.model.graph.node:
        for name in node.output:
            readers = [reader.name for reader in graph.readers.get(name, ())]
            for scope in _enclosing(node.name):
                if any(not reader.startswith(f"{scope}/") for reader in readers):
                    leaving[scope].append(name)
    for scope, names in leaving.items():
        if len(names) == 1 and names[0] not in graph.constants:
            yield names[0], f"out.{scope.strip('/').replace('/', '.')}"


def _enclosing(name: str) -> Iterator[str]:
    """Scopes that a node stands in, the narrowest first: /model/mlp and /model for /model/mlp/Mul."""
    while (name := name.rpartition("/")[0]) != "":
        yield name


def laid_open(graph: Graph, names: Sequence[str] = ()) -> bytes:
    """The model with these tensors as outputs; without names every computed one."""
    return bytes(_with_outputs(graph, names or graph.tensors).SerializeToString())


def cut(graph: Graph, anchored: Mapping[str, Array], names: Sequence[str] = ()) -> bytes:
    """The model cut at `anchored` (tensor -> true value): whatever reads such a tensor reads a new input instead.

    Outputs are as of `laid_open`, so that each shows what its nodes make of true inputs.
    """
    model = _with_outputs(graph, names or graph.tensors)
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            if name in anchored:
                node.input[i] = name + TRUE
    for name, value in anchored.items():
        kind = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
        model.graph.input.append(onnx.helper.make_tensor_value_info(name + TRUE, kind, list(value.shape)))
    return bytes(model.SerializeToString())


def _with_outputs(graph: Graph, names: Sequence[str]) -> Any:
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return model
