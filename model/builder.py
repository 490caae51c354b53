"""Write an ONNX graph node by node: names are given, initializers are shared by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.tape import Tape

from model import contract
from model.contract import Dimensions, Port

MICROSOFT = "com.microsoft"
END = np.iinfo(np.int64).max  # of a slice that goes to the end
# Score of a masked position. exp() of it is 0 in float32 and float16, and unlike -inf a row of nothing else is no NaN.
MASKED = -1e4
DTYPES = {"float32": ir.DataType.FLOAT, "int64": ir.DataType.INT64}


class Builder:
    """A graph being written. A node has the name of its first output."""

    def __init__(self, graph: ir.Graph | None = None) -> None:
        """Begin a new graph, or go on at the end of one that is there."""
        self._tape = Tape(graph)
        self._constants: dict[str, ir.Value] = {}

    def port(self, port: Port) -> ir.Value:
        """A graph input of the contract."""
        return ir.Value(name=port.name, shape=ir.Shape(port.axes), type=ir.TensorType(DTYPES[port.dtype]))

    def constant(self, name: str, array: np.ndarray[Any, Any]) -> ir.Value:
        """The initializer of this name, made when first asked for."""
        return self.tensor(name, ir.tensor(array, name=name))

    def tensor(self, name: str, tensor: ir.TensorProtocol) -> ir.Value:
        """The initializer of this name, of a tensor that may be read only when the graph is written."""
        if name not in self._constants:
            self._constants[name] = self._tape.initializer(tensor, name)
        return self._constants[name]

    def scalar(self, name: str, value: int) -> ir.Value:
        """An int64 scalar."""
        return self.constant(name, np.array(value, np.int64))

    def vector(self, name: str, *values: int) -> ir.Value:
        """An int64 vector."""
        return self.constant(name, np.array(values, np.int64))

    def op(
        self,
        operator: str,
        inputs: Sequence[ir.Value | None],
        name: str,
        attributes: Mapping[str, Any] | None = None,
        *,
        domain: str = "",
    ) -> ir.Value:
        """A node of one output."""
        return self.ops(operator, inputs, [name], attributes, domain=domain)[0]

    def ops(
        self,
        operator: str,
        inputs: Sequence[ir.Value | None],
        names: Sequence[str],
        attributes: Mapping[str, Any] | None = None,
        *,
        domain: str = "",
    ) -> Sequence[ir.Value]:
        """A node of several outputs; one whose name is empty is not computed."""
        outputs = [ir.Value(name=name) for name in names]
        return self._tape.op_multi_out(
            operator, inputs, attributes, outputs=outputs, domain=domain, name=f"{names[0]}/{operator}"
        )

    def turned(self, name: str, tensor: ir.TensorProtocol) -> ir.Value:
        """The initializer of this name, of a matrix that is stored the other way round."""
        rows, columns = tensor.shape.numpy()
        turned = ir.LazyTensor(
            lambda: ir.tensor(np.ascontiguousarray(tensor.numpy().T), name=name),
            dtype=tensor.dtype,
            shape=ir.Shape((columns, rows)),
            name=name,
        )
        return self.tensor(name, turned)

    def linear(
        self, value: ir.Value, name: str, weight: ir.Value, weights: Mapping[str, ir.TensorProtocol]
    ) -> ir.Value:
        """A linear layer of this name: a product, and a sum where the layer has a bias."""
        bias = weights.get(f"{name}.bias")
        product = self.op("MatMul", [value, weight], name if bias is None else f"{name}.product")
        return product if bias is None else self.op("Add", [product, self.tensor(f"{name}.bias", bias)], name)

    def embedded(self, ids: ir.Value, name: str, table: ir.Value) -> ir.Value:
        """Look each token's column up in a table [hidden, vocabulary]: [batch, sequence, hidden]."""
        columns = self.op("Gather", [table, ids], f"{name}.columns", {"axis": 1})
        return self.op("Transpose", [columns], name, {"perm": [1, 2, 0]})

    def attention_bias(self, ids: ir.Value, attention_mask: ir.Value) -> ir.Value:
        """Compute what is added to scores where a token may look at every slot up to its own."""
        return self.attention_biases(ids, attention_mask, [None])[None]

    def attention_biases(
        self, ids: ir.Value, attention_mask: ir.Value, windows: Iterable[int | None]
    ) -> dict[int | None, ir.Value]:
        """Compute what is added to scores, float32 [batch, 1, sequence, total]: 0 where a token may look, else MASKED.

        It may look at slots up to its own, which the last `sequence` of the `total` are, unless they are padding; with
        a window of n, at the last n of these only.
        """
        total = self.op("Shape", [attention_mask], "total_length", {"start": 1, "end": 2})
        length = self.op("Shape", [ids], "sequence_length", {"start": 1, "end": 2})
        bounds = [self.scalar("zero", 0), self.op("Squeeze", [total], "total"), self.scalar("one", 1)]
        slots = self.op("Range", bounds, "slots")
        begin = self.op("Neg", [length], "sequence_begin")
        own = self.op("Slice", [slots, begin, self.vector("end", END)], "own_slots")
        rows = self.op("Unsqueeze", [own, self.vector("axis_1", 1)], "rows")
        causal = self.op("GreaterOrEqual", [rows, slots], "causal")
        real = self.op("Cast", [attention_mask], "real", {"to": ir.DataType.BOOL})
        columns = self.op("Unsqueeze", [real, self.vector("axes_1_2", 1, 2)], "columns")
        allowed = self.op("And", [columns, causal], "allowed")
        levels = [self.constant(name, np.array(value, np.float32)) for name, value in (("open", 0), ("masked", MASKED))]
        found: dict[int | None, ir.Value] = {}
        for window in dict.fromkeys(windows):
            inside, ending = (allowed, "") if window is None else self._inside(allowed, rows, slots, window)
            found[window] = self.op("Where", [inside, *levels], f"attention_bias{ending}")
        return found

    def _inside(self, allowed: ir.Value, rows: ir.Value, slots: ir.Value, window: int) -> tuple[ir.Value, str]:
        """Where a token may look within a window, and what the names of its values end in."""
        ending = f".window_{window}"
        before = self.op("Sub", [rows, self.scalar(f"window_{window}", window)], f"rows{ending}")
        near = self.op("Greater", [slots, before], f"near{ending}")
        return self.op("And", [allowed, near], f"allowed{ending}"), ending

    def extended(self, layer: int, past: Sequence[ir.Value], new: Sequence[ir.Value]) -> list[ir.Value]:
        """The cache of a layer, keys and values, with those of this call behind it."""
        ends = zip(past, new, ("key", "value"), strict=True)
        return [self.op("Concat", [old, one], f"present.{layer}.{end}", {"axis": 2}) for old, one, end in ends]

    def attention(
        self, name: str, query: ir.Value, cache: Sequence[ir.Value], scale: ir.Value, bias: ir.Value
    ) -> ir.Value:
        """Find what rows of queries read among keys and values, [batch, heads, rows, head_dim], by ONNX's operators.

        onnxruntime's processor kernels read turned keys and the scale at no cost: both become a FusedMatMul's.
        """
        keys, values = cache
        scaled = self.op("Mul", [query, scale], f"{name}.query.scaled")
        turned = self.op("Transpose", [keys], f"{name}.keys.turned", {"perm": [0, 1, 3, 2]})
        scores = self.op("MatMul", [scaled, turned], f"{name}.scores")
        masked = self.op("Add", [scores, bias], f"{name}.scores.masked")
        probabilities = self.op("Softmax", [masked], f"{name}.probabilities", {"axis": -1})
        return self.op("MatMul", [probabilities, values], f"{name}.context")

    def heads_together(self, name: str, context: ir.Value) -> ir.Value:
        """Compute what all heads found, beside each other: [batch, sequence, heads * head_dim]."""
        back = self.op("Transpose", [context], f"{name}.context.turned", {"perm": [0, 2, 1, 3]})
        return self.op("Reshape", [back, self.vector("heads_together", 0, 0, -1)], f"{name}.heads")

    def finished(
        self,
        inputs: Sequence[ir.Value],
        hidden: ir.Value,
        head: ir.Value,
        presents: Sequence[ir.Value],
        dims: Dimensions,
    ) -> ir.Model:
        """The model that ends in the head's logits of the last positions, as many as `logits_to_keep` says.

        hidden: [batch, sequence, hidden], head: [hidden, vocabulary].
        """
        keep = self.constant(contract.LOGITS_TO_KEEP, np.array(0, np.int64))
        logits = self.op("MatMul", [self._last(hidden, keep), head], "logits")
        return self.model([*inputs, keep], [logits, *presents], contract.outputs(dims))

    def _last(self, hidden: ir.Value, keep: ir.Value) -> ir.Value:
        """The last `keep` positions of [batch, sequence, hidden]; 0 keeps all, because a slice from -0 begins at 0."""
        start = self.op("Unsqueeze", [self.op("Neg", [keep], "first"), self.vector("axis_0", 0)], "first_kept")
        return self.op("Slice", [hidden, start, self.vector("end", END), self.vector("axis_1", 1)], "kept")

    def model(self, inputs: Sequence[ir.Value], outputs: Sequence[ir.Value], ports: Sequence[Port]) -> ir.Model:
        """The graph as a model; outputs get the types and axes of `ports`."""
        for value, port in zip(outputs, ports, strict=True):
            value.type, value.shape = ir.TensorType(DTYPES[port.dtype]), ir.Shape(port.axes)
        nodes = self._tape.nodes
        versions = {"": contract.OPSET, MICROSOFT: 1}
        used = {domain: versions[domain] for domain in versions if domain == "" or domain in {n.domain for n in nodes}}
        graph = ir.Graph(inputs, outputs, nodes=nodes, initializers=self._tape.initializers, opset_imports=used)
        return ir.Model(graph, ir_version=contract.IR_VERSION)
