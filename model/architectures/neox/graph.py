"""GPT-NeoX as a graph, one node per idea, built from the checkpoint's tensors.

    embedding
    each layer: norm -> joint -> q, k, v -> rotation -> attention -> dense
                norm -> up -> gelu -> down
                residual + both, or one after the other: the second norm then reads residual + attention
    norm, head

Attention is spelt out, as GPT-2's is and for its reasons; angles, cosines and sines are made as Llama's are. The joint
projection's outputs lie head by head, each with its queries, keys and values, so heads are taken apart first. Only the
first numbers of a head are turned: the node that splits queries from keys splits them off too, they are turned as
Llama's whole heads are, and put before those that stay. Values carry the names of PyTorch's modules that compute them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from model import contract
from model.architecture import GraphSource
from model.architectures.llama import rope
from model.architectures.llama.circle import of_positions
from model.architectures.llama.graph import GraphForm, Shared
from model.builder import Builder
from model.contract import Dimensions

from .config import rotated_width, turning, values_of

Activation = Callable[[Builder, ir.Value, str], ir.Value]  # of a value, as the value of this name


def build(source: GraphSource, rotation: GraphForm, activation: Activation) -> ir.Model:
    """Return the model with the ports of the contract; of `rotation` only the way to turn is taken."""
    return NeoXGraph(values_of(source.config), source.weights(), source.dims, rotation, activation).model()


@dataclass(frozen=True)
class NeoXGraph:
    """Write the graph of a checkpoint."""

    config: Mapping[str, Any]
    weights: Mapping[str, ir.TensorProtocol]
    dims: Dimensions
    rotation: GraphForm
    activation: Activation
    graph: Builder = field(default_factory=Builder)

    def model(self) -> ir.Model:
        """The whole model, ports first."""
        graph, dims = self.graph, self.dims
        inputs = [graph.port(port) for port in contract.inputs(dims)]
        ids, attention_mask, positions, *past = inputs
        table = self._turned("gpt_neox.embed_in")
        stream = graph.embedded(ids, "gpt_neox.embed_in", table)
        frequencies, scale = rope.frequencies(turning(self.config), rotated_width(self.config))
        turn = self.rotation.turn(graph, ids, *of_positions(graph, positions, frequencies, scale))
        call = Shared({None: graph.attention_bias(ids, attention_mask)}, turn)
        presents: list[ir.Value] = []
        for layer in range(dims.layers):
            stream, present = self._layer(layer, stream, call, past[2 * layer : 2 * layer + 2])
            presents += present
        hidden = self._norm(stream, "gpt_neox.final_layer_norm")
        head = table if dims.tied else self._turned("lm_head")
        return graph.finished(inputs, hidden, head, presents, dims)

    def _layer(
        self, layer: int, stream: ir.Value, call: Shared, past: list[ir.Value]
    ) -> tuple[ir.Value, list[ir.Value]]:
        """One layer: the residual stream in and out, and the cache."""
        graph, name = self.graph, f"gpt_neox.layers.{layer}"
        hidden = self._norm(stream, f"{name}.input_layernorm")
        attended, present = self._attention(layer, hidden, call, past)
        if self.config["use_parallel_residual"]:
            both = graph.op("Add", [self._feed_forward(name, stream), attended], f"{name}.both")
            return graph.op("Add", [both, stream], name), present
        stream = graph.op("Add", [attended, stream], f"{name}.middle")
        return graph.op("Add", [self._feed_forward(name, stream), stream], name), present

    def _feed_forward(self, name: str, stream: ir.Value) -> ir.Value:
        hidden = self._norm(stream, f"{name}.post_attention_layernorm")
        inner = self.activation(self.graph, self._linear(hidden, f"{name}.mlp.dense_h_to_4h"), f"{name}.mlp.act")
        return self._linear(inner, f"{name}.mlp.dense_4h_to_h")

    def _attention(
        self, layer: int, hidden: ir.Value, call: Shared, past: list[ir.Value]
    ) -> tuple[ir.Value, list[ir.Value]]:
        """Compute what attention adds to the stream, float32 [batch, sequence, hidden], and the cache."""
        graph, name = self.graph, f"gpt_neox.layers.{layer}.attention"
        query, key, value = self._heads(name, self._linear(hidden, f"{name}.query_key_value"), call.turn)
        cache = graph.extended(layer, past, (key, value))
        scale = graph.constant("attention_scale", np.array(self.dims.head_dim**-0.5, np.float32))
        context = graph.attention(name, query, cache, scale, call.bias[None])
        return self._linear(graph.heads_together(name, context), f"{name}.dense"), cache

    def _heads(self, name: str, joint: ir.Value, turn: Sequence[ir.Value]) -> tuple[ir.Value, ir.Value, ir.Value]:
        """Queries and keys, turned, and values of the joint projection, each float32 [batch, heads, sequence, width].

        The second Reshape changes nothing: it keeps onnxruntime's optimizer from moving the Transpose behind the Split,
        where it would be several.
        """
        graph, heads, width = self.graph, self.dims.heads, self.dims.head_dim
        apart = graph.op("Reshape", [joint, graph.vector("heads_apart", 0, 0, heads, 3 * width)], f"{name}.apart")
        turned = graph.op("Transpose", [apart], f"{name}.turned", {"perm": [0, 2, 1, 3]})
        stays = graph.op("Reshape", [turned, graph.vector("heads_first", 0, heads, -1, 3 * width)], f"{name}.joint")
        first = rotated_width(self.config)
        whole = first == width
        parts = (
            ["query.straight", "key.straight"]
            if whole
            else [f"{part}.{share}" for part in ("query", "key") for share in ("straight", "unturned")]
        )
        sizes = graph.vector("heads_each", *([width] * 2 if whole else [first, width - first] * 2), width)
        *found, value = graph.ops(
            "Split", [stays, sizes], [f"{name}.{part}" for part in (*parts, "value")], {"axis": 3}
        )
        step = len(found) // 2
        query, key = (
            self._rotated(f"{name}.{part}", found[at : at + step], turn) for part, at in (("query", 0), ("key", step))
        )
        return query, key, value

    def _rotated(self, name: str, parts: Sequence[ir.Value], turn: Sequence[ir.Value]) -> ir.Value:
        """Queries or keys, of which the first part is turned and the second, if there is one, is not."""
        straight, *unturned = parts
        rotated = self.rotation.rotated(self.graph, straight, turn, f"{name}.rotated" if unturned else name)
        return self.graph.op("Concat", [rotated, *unturned], name, {"axis": -1}) if unturned else rotated

    def _norm(self, stream: ir.Value, name: str) -> ir.Value:
        inputs = [stream, *(self._tensor(f"{name}.{part}") for part in ("weight", "bias"))]
        attributes = {"axis": -1, "epsilon": float(self.config["layer_norm_eps"])}
        return self.graph.op("LayerNormalization", inputs, name, attributes)

    def _linear(self, value: ir.Value, name: str) -> ir.Value:
        return self.graph.linear(value, name, self._turned(name), self.weights)

    def _turned(self, module: str) -> ir.Value:
        """A weight as a product reads it, [in, out]."""
        return self.graph.turned(f"{module}.weight", self.weights[f"{module}.weight"])

    def _tensor(self, name: str) -> ir.Value:
        return self.graph.tensor(name, self.weights[name])
