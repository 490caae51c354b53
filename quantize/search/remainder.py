"""Run the fp32 graph with some weights replaced, from the first value on that they change.

What comes before was computed once and is fed. Weights are inputs, so that no session holds any. The logits are to the
last bit those of the whole graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from quantize.numerics.blocks import Floats
from quantize.rewrite.graph import load
from quantize.rewrite.products import initializer
from quantize.rewrite.weights import Weight, find_weights, tensor_of
from quantize.runner import GraphRunner, Ids
from quantize.scheme import Context

GROUP = 4  # linear layers that begin at one place: with fewer, more values are kept; with more, more is computed again
ROWS = "/rows"  # what the copy of a table that lookups read is called
Group = tuple[str, ...]  # of names of weights


@dataclass(frozen=True)
class Piece:
    """One text, the unchanged graph's logits for its second half, and what remainders begin with."""

    ids: Ids
    logits: Floats
    values: Mapping[str, Floats]


class Remainders:
    """The graph from each group of weights on, and texts to run it on.

    Lookups of a weight that products read too get a copy of it, so that either can be replaced alone.
    """

    def __init__(self, context: Context, pieces: Ids) -> None:
        self.model = load(context.graph)
        weights = find_weights(self.model, context.dims)
        body = [weight.name for weight in weights.body]
        groups: list[Group] = [tuple(body[i : i + GROUP]) for i in range(0, len(body), GROUP)]
        self._weights = {weight.name: weight.value for weight in (*weights.body, *weights.tables, *weights.lookups)}
        groups += [(weight.name,) for weight in (*weights.tables, *weights.lookups)]
        for weight in (*weights.body, *weights.tables):
            if weight.lookups and weight.products:
                copy = initializer(self.model, weight.name + ROWS, tensor_of(weight.value).numpy())
                for lookup in weight.lookups:
                    lookup.gather.replace_input_with(0, copy)
                self._weights[str(copy.name)] = copy
                groups.append((weight.name, str(copy.name)))
        self._arrays = {name: tensor_of(value).numpy() for name, value in self._weights.items()}
        varied = _after(self._weights.values())
        self._begins = {group: self._begin(group, varied) for group in groups}
        self.pieces = self._pieces(pieces)
        self.group, self.runner = groups[0], self._runner(self._begins[groups[0]], ["logits"])  # the last that ran

    def logits(self, replaced: Mapping[str, Floats]) -> Iterator[tuple[Floats, Floats]]:
        """Of each text the unchanged graph's logits, and those with weights of one group replaced, by name."""
        known = {name: array for name, array in replaced.items() if name in self._arrays}
        group = next(group for group in self._begins if known.keys() <= set(group))
        if group != self.group:
            self.group, self.runner = group, self._runner(self._begins[group], ["logits"])
        for piece in self.pieces:
            feeds = {**self._arrays, **piece.values, **known}
            yield piece.logits, self.runner.logits(piece.ids, len(piece.ids) // 2, feeds)

    def inputs(self, weight: Weight) -> Iterator[tuple[Floats, Floats]]:
        """Of each text the unchanged graph's logits, and what the head multiplies with a table: [tokens, K]."""
        (name,) = {str(node.inputs[0].name) for node in weight.products if node.inputs[0] is not None}
        for piece in self.pieces:
            values = piece.values[name]
            yield piece.logits, values.reshape(-1, values.shape[-1])[-len(piece.logits) :]

    def _begin(self, group: Group, varied: Mapping[ir.Node, None]) -> list[ir.Value]:
        """Return the values that do not depend on a group, but on other weights, where they meet what does."""
        after = _after(self._weights[name] for name in group)
        met = [value for node in self.model.graph if node in after for value in node.inputs if value is not None]
        found = dict.fromkeys(value for value in met if value.producer() in varied and value.producer() not in after)
        for value in found:
            value.type = ir.TensorType(ir.DataType.FLOAT)
        return list(found)

    def _runner(self, begin: Sequence[ir.Value], outputs: Sequence[str]) -> GraphRunner:
        """The graph from some of its values on."""
        graph = self.model.graph
        part = ir.convenience.extract(graph, [*graph.inputs, *begin], outputs)
        for name in self._weights.keys() & part.initializers.keys():
            part.inputs.append(part.initializers.pop(name))
        return GraphRunner(ir.Model(part, ir_version=self.model.ir_version))

    def _pieces(self, texts: Ids) -> list[Piece]:
        names = list({str(value.name): None for values in self._begins.values() for value in values})
        runner = self._runner([], ["logits", *names])
        found = []
        for ids in texts:
            keep = len(ids) // 2
            logits, *values = runner.run(["logits", *names], ids, keep, self._arrays)
            found.append(Piece(ids, logits[0, -keep:], dict(zip(names, values, strict=True))))
        return found


def _after(values: Iterable[ir.Value]) -> dict[ir.Node, None]:
    """The nodes that depend on any of these values."""
    found: dict[ir.Node, None] = {}
    rest = list(values)
    while rest:
        for node, _ in rest.pop().uses():
            if node not in found:
                found[node] = None
                rest += node.outputs
    return found
