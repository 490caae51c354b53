"""The Llama family as a graph, one node per idea, built from the checkpoint's tensors.

    embedding
    each layer: norm -> q, k, v -> rotation -> attention -> out -> residual + norm -> gate, up -> down -> residual
    norm, head

Attention is spelt out, as GPT-2's is and for its reasons. Several heads share their keys and values: the rows of all
queries that read the same keys are one matrix, and so are their scores, probabilities and findings. The additive bias
of causality and padding is repeated once for all layers, so that no layer takes these rows apart. The angles of the
positions, their cosines and sines are made once for all layers from the positions themselves: there is no table that
could be too short, or that a long context makes large. Norms are written so that onnxruntime's optimizer makes one node
of each; the operator that it uses is none of ONNX's, so it cannot stand in the file. The two forms differ in how they
write rotation and activation. Biases, and norms of each head's queries and keys, are written where there are tensors of
them: so kin of Llama's share this file. Values carry the names of the PyTorch modules that compute them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from model import contract
from model.architecture import GraphSource
from model.builder import Builder
from model.contract import Dimensions

from . import rope
from .circle import of_positions
from .config import values_of, windows


@dataclass(frozen=True)
class GraphForm:
    """State how a form of the graph writes what the forms write differently."""

    # Of ids, cosines and sines [batch, 1, sequence, head_dim / 2]: what `rotated` reads in every layer.
    turn: Callable[[Builder, ir.Value, ir.Value, ir.Value], Sequence[ir.Value]]
    # Of queries or keys [batch, heads, sequence, head_dim] and of that: the same turned, as the value of this name.
    rotated: Callable[[Builder, ir.Value, Sequence[ir.Value], str], ir.Value]
    # Of a value: x sigmoid(x), as the value of this name.
    activation: Callable[[Builder, ir.Value, str], ir.Value]


@dataclass(frozen=True)
class Shared:
    """State what all layers read: the additive bias of each row of scores, by window, and what rotates."""

    bias: Mapping[int | None, ir.Value]
    turn: Sequence[ir.Value]


def build(source: GraphSource, form: GraphForm, config: Mapping[str, Any]) -> ir.Model:
    """Return the model with the ports of the contract; `config` is the source's as Llama spells it."""
    return LlamaGraph(values_of(config), source.weights(), source.dims, form).model()


@dataclass(frozen=True)
class LlamaGraph:
    """Write the graph of a checkpoint."""

    config: Mapping[str, Any]
    weights: Mapping[str, ir.TensorProtocol]
    dims: Dimensions
    form: GraphForm
    graph: Builder = field(default_factory=Builder)

    def model(self) -> ir.Model:
        """The whole model, ports first."""
        graph, dims = self.graph, self.dims
        inputs = [graph.port(port) for port in contract.inputs(dims)]
        ids, attention_mask, positions, *past = inputs
        table = self._turned("model.embed_tokens")
        stream = graph.embedded(ids, "model.embed_tokens", table)
        call = Shared(self._bias(ids, attention_mask), self._turn(ids, positions))
        presents: list[ir.Value] = []
        for layer in range(dims.layers):
            stream, present = self._layer(layer, stream, call, past[2 * layer : 2 * layer + 2])
            presents += present
        hidden = self._norm(stream, "model.norm")
        head = table if dims.tied else self._turned("lm_head")
        return graph.finished(inputs, hidden, head, presents, dims)

    def _bias(self, ids: ir.Value, attention_mask: ir.Value) -> Mapping[int | None, ir.Value]:
        """The additive bias of the rows of all queries that read the same keys, by the layers' windows."""
        found = self.graph.attention_biases(ids, attention_mask, windows(self.config))
        queries = self.dims.heads // self.dims.kv_heads
        if queries == 1:
            return found
        return {
            window: self.graph.op("Concat", [bias] * queries, f"{bias.name}.grouped", {"axis": 2})
            for window, bias in found.items()
        }

    def _turn(self, ids: ir.Value, positions: ir.Value) -> Sequence[ir.Value]:
        """Return what rotation reads: cosines and sines of this call's angles, in the form's way."""
        both = of_positions(self.graph, positions, *rope.frequencies(self.config, self.dims.head_dim))
        return self.form.turn(self.graph, ids, *both)

    def _layer(
        self, layer: int, stream: ir.Value, call: Shared, past: list[ir.Value]
    ) -> tuple[ir.Value, list[ir.Value]]:
        """One layer: the residual stream in and out, and the cache."""
        graph, name = self.graph, f"model.layers.{layer}"
        hidden = self._norm(stream, f"{name}.input_layernorm")
        attended, present = self._attention(layer, hidden, call, past)
        stream = graph.op("Add", [self._linear(attended, f"{name}.self_attn.o_proj"), stream], f"{name}.middle")
        hidden = self._norm(stream, f"{name}.post_attention_layernorm")
        gate = self.form.activation(graph, self._linear(hidden, f"{name}.mlp.gate_proj"), f"{name}.mlp.act_fn")
        inner = graph.op("Mul", [gate, self._linear(hidden, f"{name}.mlp.up_proj")], f"{name}.mlp.inner")
        return graph.op("Add", [self._linear(inner, f"{name}.mlp.down_proj"), stream], name), present

    def _attention(
        self, layer: int, hidden: ir.Value, call: Shared, past: list[ir.Value]
    ) -> tuple[ir.Value, list[ir.Value]]:
        """Compute what the heads found, float32 [batch, sequence, heads * head_dim], and the cache."""
        graph, dims, name = self.graph, self.dims, f"model.layers.{layer}.self_attn"
        query, key = (
            self.form.rotated(graph, self._heads(hidden, f"{name}.{letter}_proj", heads), call.turn, f"{name}.{part}")
            for letter, part, heads in (("q", "query", dims.heads), ("k", "key", dims.kv_heads))
        )
        value = self._heads(hidden, f"{name}.v_proj", dims.kv_heads)
        cache = graph.extended(layer, past, (key, value))
        if dims.heads != dims.kv_heads:
            together = graph.vector("rows_by_keys", 0, dims.kv_heads, -1, dims.head_dim)
            query = graph.op("Reshape", [query, together], f"{name}.query.grouped")
        scale = graph.constant("attention_scale", np.array(dims.head_dim**-0.5, np.float32))
        context = graph.attention(name, query, cache, scale, call.bias[windows(self.config)[layer]])
        if dims.heads != dims.kv_heads:
            apart = graph.vector("rows_by_heads", 0, dims.heads, -1, dims.head_dim)
            context = graph.op("Reshape", [context, apart], f"{name}.context.apart")
        return graph.heads_together(name, context), cache

    def _heads(self, hidden: ir.Value, name: str, heads: int) -> ir.Value:
        """A linear layer's outputs, heads apart: float32 [batch, heads, sequence, head_dim]."""
        shape, norm = (
            self.graph.vector(f"{heads}_heads", 0, 0, heads, self.dims.head_dim),
            name.replace("_proj", "_norm"),
        )
        apart = self.graph.op("Reshape", [self._linear(hidden, name), shape], f"{name}.apart")
        if f"{norm}.weight" in self.weights:
            apart = self._norm(apart, norm)
        return self.graph.op("Transpose", [apart], f"{name}.turned", {"perm": [0, 2, 1, 3]})

    def _norm(self, stream: ir.Value, name: str) -> ir.Value:
        """A row over its root mean square, times the norm's weight."""
        graph = self.graph
        epsilon = graph.constant("epsilon", np.array(self.config["rms_norm_eps"], np.float32))
        square = graph.op("Pow", [stream, graph.constant("two", np.array(2, np.float32))], f"{name}.square")
        mean = graph.op("ReduceMean", [square, graph.vector("last_axis", -1)], f"{name}.mean", {"keepdims": 1})
        root = graph.op("Sqrt", [graph.op("Add", [mean, epsilon], f"{name}.variance")], f"{name}.root")
        unit = graph.op("Div", [stream, root], f"{name}.unit")
        return graph.op("Mul", [unit, graph.tensor(f"{name}.weight", self.weights[f"{name}.weight"])], name)

    def _linear(self, value: ir.Value, name: str) -> ir.Value:
        return self.graph.linear(value, name, self._turned(name), self.weights)

    def _turned(self, module: str) -> ir.Value:
        """A weight as a product reads it, [in, out]."""
        return self.graph.turned(f"{module}.weight", self.weights[f"{module}.weight"])
