"""Find which initializers the token embedding and the output head of a graph read, by following the graph."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from onnx import TensorProto

from model.contract import Dimensions

LOOKUPS = ("Gather", "GatherBlockQuantized")
PRODUCTS = ("MatMul", "Gemm", "FusedMatMul", "MatMulNBits", "MatMulBnb4", "MatMulInteger", "DynamicQuantizeMatMul")
REARRANGEMENTS = ("Cast", "DequantizeLinear", "Identity", "Reshape", "Transpose", "Unsqueeze")
STEPS = (*REARRANGEMENTS, "Mul", "Slice", "Sub")  # and those from stored codes to numbers
INTEGERS = (TensorProto.UINT8, TensorProto.INT8, TensorProto.UINT4, TensorProto.INT4)
LARGE = 1 / 8  # of the table's values: scales and zero points of any block are fewer bytes, codes of 2 bits are more


class Tables:
    """The large initializers behind the lookups that read `input_ids`, and behind the products that make `logits`."""

    def __init__(self, graph: Any, dims: Dimensions) -> None:
        self._makers = {name: node for node in graph.node for name in node.output}
        self._bytes = {tensor.name: len(tensor.raw_data) or _elements(tensor.dims) for tensor in graph.initializer}
        self._codes = frozenset(t.name for t in graph.initializer if t.data_type in INTEGERS)
        # Codes in blocks may be those of a few rows only, which have more bits than the others.
        rows = {t.name: t.dims[0] for t in graph.initializer if t.name in self._codes and len(t.dims) == 3}
        self._least = {name: count * dims.hidden * LARGE for name, count in rows.items()}
        self._whole = dims.vocabulary * dims.hidden * LARGE
        lookups = [
            node
            for node in graph.node
            if node.op_type in LOOKUPS and len(node.input) > 1 and self._follows_ids(node.input[1])
        ]
        self.embedding = self._large(node.input[0] for node in lookups)
        # Beside the codes of a quantized table its scales are looked up, which can be as large.
        self.embedding = self.embedding & self._codes or self.embedding
        products = [node for output in graph.output if output.name == "logits" for node in self._products(output.name)]
        self.head = self._large(name for node in products for name in node.input[1:2])

    def _large(self, names: Iterable[str]) -> frozenset[str]:
        origins = {self._origin(name) for name in names}
        return frozenset(name for name in origins if self._bytes.get(name, 0) >= self._least.get(name, self._whole))

    def _origin(self, name: str) -> str:
        """The value that this one is a rearrangement of, or whose codes it makes numbers."""
        while name in self._makers and self._makers[name].op_type in STEPS and self._makers[name].input:
            name = self._makers[name].input[0]
        return name

    def _follows_ids(self, name: str) -> bool:
        """Return whether a value is computed from `input_ids` alone, as the indices of a lookup are."""
        waiting, seen, sources = [name], {name}, set()
        while waiting:
            value = waiting.pop()
            node = self._makers.get(value)
            if node is None or node.op_type == "Shape":  # positions may be counted from the shape of the ids
                sources.add(value)
            elif node.op_type in (*LOOKUPS, *PRODUCTS):
                return False
            else:
                data = node.input[:1] if node.op_type in REARRANGEMENTS else node.input
                fresh = {entry for entry in data if entry} - seen
                waiting += fresh
                seen |= fresh
        return "input_ids" in sources and sources - self._bytes.keys() == {"input_ids"}

    def _products(self, name: str) -> Iterator[Any]:
        """The products nearest to a value, on every path back from it."""
        waiting, seen = [name], set()
        while waiting:
            node = self._makers.get(waiting.pop())
            if node is None or node.op_type == "Shape" or id(node) in seen:
                continue
            seen.add(id(node))
            if node.op_type in PRODUCTS:
                yield node
            else:
                waiting += [entry for entry in node.input if entry]


def _elements(dims: Iterable[int]) -> int:
    """A lower bound of a tensor's bytes whose values are stored in typed fields."""
    count = 1
    for size in dims:
        count *= size
    return count
