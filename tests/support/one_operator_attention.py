"""The fused graph as it was: onnxruntime's MultiHeadAttention in each layer (decision 0007 says why it is no more)."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

SPELT_OUT = (
    *("apart", "turned", "joint", "query", "key", "value", "query.scaled", "keys.turned", "scores", "scores.masked"),
    *("probabilities", "context", "context.turned", "heads"),
)


def with_one_operator(model: onnx.ModelProto, layers: int, heads: int) -> onnx.ModelProto:
    """Return a copy of a fused graph of GPT-2 whose attention is one operator a layer."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    scale = next(numpy_helper.to_array(t) for t in copy.graph.initializer if t.name == "attention_scale")
    hidden = next(np.prod(t.dims) for t in copy.graph.initializer if t.name == "transformer.ln_f.bias")
    copy.graph.initializer.append(numpy_helper.from_array(np.full(3, hidden, np.int64), "parts"))
    for layer in range(layers):
        name = f"transformer.h.{layer}.attn"
        present = [f"present.{layer}.key", f"present.{layer}.value"]
        made = {*(f"{name}.{part}" for part in SPELT_OUT), *present}
        places = [place for place, node in enumerate(copy.graph.node) if made.intersection(node.output)]
        parts = [f"{name}.{part}" for part in ("query", "key", "value")]
        split = helper.make_node("Split", [f"{name}.c_attn", "parts"], parts, f"{name}.query/Split", axis=-1)
        past = [f"past_key_values.{layer}.key", f"past_key_values.{layer}.value"]
        attention = helper.make_node(
            "MultiHeadAttention",
            [*parts, "", "", "attention_bias", *past],
            [f"{name}.heads", *present],
            f"{name}.heads/MultiHeadAttention",
            domain="com.microsoft",
            num_heads=heads,
            scale=float(scale),
        )
        for place in reversed(places):
            del copy.graph.node[place]
        for node in (attention, split):
            copy.graph.node.insert(places[0], node)
    read = {name for node in copy.graph.node for name in node.input}
    for place, tensor in reversed(list(enumerate(copy.graph.initializer))):
        if tensor.name not in read:
            del copy.graph.initializer[place]
    return copy
