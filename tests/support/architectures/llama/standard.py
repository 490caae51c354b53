"""Llama as a graph of ONNX's own operators, built from the checkpoint's tensors.

    embedding
    each layer: norm -> q, k, v -> rotation -> attention -> out -> residual + norm -> gate, up -> down -> residual
    norm, head

Several heads share their keys and values: the rows of all queries that read the same keys become one matrix product.
Angles, their cosines and sines are made once for all layers, from the positions themselves: there is no table that
could be too short. The rotation swaps the halves of a head and gives the sine of the first half the other sign.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from model import contract
from model.architecture import GraphSource
from model.builder import Builder
from model.contract import Dimensions

from .config import DEFAULTS, complete


def build(source: GraphSource) -> ir.Model:
    """Return the model with the ports of the contract."""
    config = {**DEFAULTS, **complete(source.config)}
    return _Llama(config, source.weights(), source.dims, Builder()).model()


@dataclass(frozen=True)
class _Llama:
    config: Mapping[str, Any]
    weights: Mapping[str, ir.TensorProtocol]
    dims: Dimensions
    graph: Builder

    def model(self) -> ir.Model:
        """The whole model, ports first."""
        graph, dims = self.graph, self.dims
        inputs = [graph.port(port) for port in contract.inputs(dims)]
        ids, attention_mask, positions, *past = inputs
        columns = graph.op(
            "Gather", [self._turned("model.embed_tokens"), ids], "model.embed_tokens.columns", {"axis": 1}
        )
        stream = graph.op("Transpose", [columns], "model.embed_tokens", {"perm": [1, 2, 0]})
        bias, turn = graph.attention_bias(ids, attention_mask), self._turn(positions)
        presents: list[ir.Value] = []
        for layer in range(dims.layers):
            stream, present = self._layer(layer, stream, bias, turn, past[2 * layer : 2 * layer + 2])
            presents += present
        hidden = self._norm(stream, "model.norm")
        keep = graph.constant(contract.LOGITS_TO_KEEP, np.array(0, np.int64))
        head = self._turned("model.embed_tokens" if dims.tied else "lm_head")
        logits = graph.op("MatMul", [graph.last(hidden, keep), head], "logits")
        return graph.model([*inputs, keep], [logits, *presents], contract.outputs(dims))

    def _turn(self, positions: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Cosine and signed sine of this call's angles, float32 [batch, 1, sequence, head_dim]."""
        graph, width = self.graph, self.dims.head_dim
        exponents = np.arange(0, width, 2, dtype=np.float32) / np.float32(width)
        frequencies = np.float32(1) / np.float32(self.config["rope_theta"]) ** exponents
        places = graph.op("Cast", [positions], "places", {"to": ir.DataType.FLOAT})
        column = graph.op("Unsqueeze", [places, graph.vector("axes_1_3", 1, 3)], "places.column")
        angles = graph.op("Mul", [column, graph.constant("frequencies", frequencies)], "angles")
        cosine, sine = graph.op("Cos", [angles], "cosine"), graph.op("Sin", [angles], "sine")
        other = graph.op("Neg", [sine], "sine.negative")
        both = graph.op("Concat", [cosine, cosine], "cosine.both", {"axis": -1})
        return both, graph.op("Concat", [other, sine], "sine.signed", {"axis": -1})

    def _layer(
        self, layer: int, stream: ir.Value, bias: ir.Value, turn: tuple[ir.Value, ir.Value], past: list[ir.Value]
    ) -> tuple[ir.Value, list[ir.Value]]:
        """One layer: the residual stream in and out, and the cache."""
        graph, name = self.graph, f"model.layers.{layer}"
        hidden = self._norm(stream, f"{name}.input_layernorm")
        attended, present = self._attention(layer, hidden, bias, turn, past)
        projected = self._linear(attended, f"{name}.self_attn.o_proj")
        stream = graph.op("Add", [projected, stream], f"{name}.middle")
        hidden = self._norm(stream, f"{name}.post_attention_layernorm")
        gate = self._linear(hidden, f"{name}.mlp.gate_proj")
        opened = graph.op("Sigmoid", [gate], f"{name}.mlp.act_fn.sigmoid")
        active = graph.op("Mul", [gate, opened], f"{name}.mlp.act_fn")
        inner = graph.op("Mul", [active, self._linear(hidden, f"{name}.mlp.up_proj")], f"{name}.mlp.inner")
        return graph.op("Add", [self._linear(inner, f"{name}.mlp.down_proj"), stream], name), present

    def _attention(
        self, layer: int, hidden: ir.Value, bias: ir.Value, turn: tuple[ir.Value, ir.Value], past: list[ir.Value]
    ) -> tuple[ir.Value, list[ir.Value]]:
        """What the heads found, float32 [batch, sequence, heads * head_dim], and the cache."""
        graph, dims, name = self.graph, self.dims, f"model.layers.{layer}.self_attn"
        query = self._rotated(self._heads(hidden, f"{name}.q_proj", dims.heads), turn, f"{name}.query")
        key = self._rotated(self._heads(hidden, f"{name}.k_proj", dims.kv_heads), turn, f"{name}.key")
        value = self._heads(hidden, f"{name}.v_proj", dims.kv_heads)
        keys, values = (
            graph.op("Concat", [old, new], f"present.{layer}.{part}", {"axis": 2})
            for part, old, new in zip(("key", "value"), past, (key, value), strict=True)
        )
        scale = graph.constant("attention_scale", np.array(dims.head_dim**-0.5, np.float32))
        scaled = graph.op("Mul", [query, scale], f"{name}.query.scaled")
        turned = graph.op("Transpose", [keys], f"{name}.keys.turned", {"perm": [0, 1, 3, 2]})
        together = graph.vector("heads_by_keys", 0, dims.kv_heads, -1, dims.head_dim)
        products = graph.op(
            "MatMul", [graph.op("Reshape", [scaled, together], f"{name}.query.grouped"), turned], f"{name}.products"
        )
        apart = graph.vector("heads_apart", 0, dims.heads, -1, 0)
        scores = graph.op("Reshape", [products, apart], f"{name}.scores")
        masked = graph.op("Add", [scores, bias], f"{name}.scores.masked")
        weights = graph.op("Softmax", [masked], f"{name}.probabilities", {"axis": -1})
        grouped = graph.op(
            "Reshape", [weights, graph.vector("rows_by_keys", 0, dims.kv_heads, -1, 0)], f"{name}.probabilities.grouped"
        )
        context = graph.op(
            "Reshape", [graph.op("MatMul", [grouped, values], f"{name}.found"), apart], f"{name}.context"
        )
        back = graph.op("Transpose", [context], f"{name}.context.turned", {"perm": [0, 2, 1, 3]})
        return graph.op("Reshape", [back, graph.vector("heads_together", 0, 0, -1)], f"{name}.heads"), [keys, values]

    def _heads(self, hidden: ir.Value, name: str, heads: int) -> ir.Value:
        """A linear layer's outputs, heads apart: float32 [batch, heads, sequence, head_dim]."""
        shape = self.graph.vector(f"{heads}_heads", 0, 0, heads, self.dims.head_dim)
        apart = self.graph.op("Reshape", [self._linear(hidden, name), shape], f"{name}.apart")
        return self.graph.op("Transpose", [apart], f"{name}.turned", {"perm": [0, 2, 1, 3]})

    def _rotated(self, value: ir.Value, turn: tuple[ir.Value, ir.Value], name: str) -> ir.Value:
        """Every pair of a head's numbers, one of each half, turned by the angle of its position."""
        graph, half = self.graph, self.dims.head_dim // 2
        parts = [f"{name}.{part}" for part in ("first", "second")]
        first, second = graph.ops("Split", [value, graph.vector("halves", half, half)], parts, {"axis": -1})
        swapped = graph.op("Concat", [second, first], f"{name}.swapped", {"axis": -1})
        along = graph.op("Mul", [value, turn[0]], f"{name}.along")
        across = graph.op("Mul", [swapped, turn[1]], f"{name}.across")
        return graph.op("Add", [along, across], name)

    def _norm(self, stream: ir.Value, name: str) -> ir.Value:
        """A row over its root mean square, times the norm's weight."""
        graph = self.graph
        epsilon = graph.constant("epsilon", np.array(self.config["rms_norm_eps"], np.float32))
        square = graph.op("Mul", [stream, stream], f"{name}.square")
        mean = graph.op("ReduceMean", [square, graph.vector("last_axis", -1)], f"{name}.mean", {"keepdims": 1})
        root = graph.op("Sqrt", [graph.op("Add", [mean, epsilon], f"{name}.variance")], f"{name}.root")
        unit = graph.op("Div", [stream, root], f"{name}.unit")
        return graph.op("Mul", [unit, self.graph.tensor(f"{name}.weight", self.weights[f"{name}.weight"])], name)

    def _linear(self, value: ir.Value, name: str) -> ir.Value:
        bias = self.weights.get(f"{name}.bias")
        product = self.graph.op("MatMul", [value, self._turned(name)], name if bias is None else f"{name}.product")
        return (
            product if bias is None else self.graph.op("Add", [product, self.graph.tensor(f"{name}.bias", bias)], name)
        )

    def _turned(self, module: str) -> ir.Value:
        """A weight as a product reads it, [in, out]."""
        return self.graph.turned(f"{module}.weight", self.weights[f"{module}.weight"])
