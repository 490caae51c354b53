"""Make a small random GPT-2-like graph from ONNX operators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from model import contract
from model.contract import Dimensions
from pipeline.recipe.recipe import LARGEST_FILE
from quantize.scheme import Context

Array = npt.NDArray[Any]

LEVELS = ("ORT_DISABLE_ALL", "ORT_ENABLE_ALL")

DIMS = Dimensions(
    layers=2, hidden=40, heads=4, kv_heads=4, head_dim=10, context=32, vocabulary=77, parameters=45000, tied=True
)

UNTIED = replace(DIMS, tied=False)

ALIGNED = replace(DIMS, hidden=64, head_dim=16)  # a whole number of blocks of 32


@dataclass
class Tiny:
    """Nodes and initializers while the graph is built."""

    dims: Dimensions
    nodes: list[onnx.NodeProto]
    weights: dict[str, Array]

    def op(self, kind: str, *inputs: str | Array, name: str = "", outputs: int = 1, **attributes: Any) -> Any:
        """Add a node; arrays become initializers. Its output's name, or names."""
        name = name or f"{kind}_{len(self.nodes)}"
        names = [name] if outputs == 1 else [f"{name}.{i}" for i in range(outputs)]
        taken = [self.constant(item) if isinstance(item, np.ndarray) else item for item in inputs]
        self.nodes.append(helper.make_node(kind, taken, names, name=f"node/{name}", **attributes))
        return name if outputs == 1 else names

    def constant(self, array: Array, name: str = "") -> str:
        name = name or f"constant_{len(self.weights)}"
        self.weights[name] = array
        return name

    def linear(self, x: str, name: str, width: int) -> str:
        generator = np.random.default_rng(len(self.nodes))
        fan_in = 4 * self.dims.hidden if name.endswith("out") else self.dims.hidden
        weight = self.constant(
            (generator.standard_normal((fan_in, width)) / fan_in**0.5).astype(np.float32), f"{name}.weight"
        )
        bias = self.constant(generator.standard_normal(width).astype(np.float32), f"{name}.bias")
        return str(self.op("Add", self.op("MatMul", x, weight), bias))

    def norm(self, x: str) -> str:
        generator = np.random.default_rng(len(self.nodes))
        gain, shift = 1 + generator.standard_normal((2, self.dims.hidden)).astype(np.float32) / 4
        return str(self.op("LayerNormalization", x, gain, shift - 1, axis=-1, epsilon=1e-5))


def tiny_model(dims: Dimensions = DIMS) -> onnx.ModelProto:
    """An fp32 model that keeps the contract of model.contract, causal and with left padding masked."""
    graph = Tiny(dims, [], {})
    generator = np.random.default_rng(7)
    table = graph.constant(generator.standard_normal((dims.vocabulary, dims.hidden)).astype(np.float32), "wte.weight")
    places = graph.constant(generator.standard_normal((dims.context, dims.hidden)).astype(np.float32), "wpe.weight")
    x = graph.op("Add", graph.op("Gather", table, "input_ids"), graph.op("Gather", places, "position_ids"))
    mask = _mask(graph)
    for layer in range(dims.layers):
        x = graph.op("Add", x, _attention(graph, graph.norm(x), mask, layer))
        wide = _gelu(graph, graph.linear(graph.norm(x), f"h.{layer}.in", 4 * dims.hidden))
        x = graph.op("Add", x, graph.linear(wide, f"h.{layer}.out", dims.hidden))
    head = (
        graph.op("Transpose", table, perm=[1, 0])
        if dims.tied
        else graph.constant(
            generator.standard_normal((dims.hidden, dims.vocabulary)).astype(np.float32), "lm_head.weight"
        )
    )
    graph.op("MatMul", graph.norm(x), head, name="logits")
    return assemble(graph, contract.inputs(dims), contract.outputs(dims))


def context(dims: Dimensions) -> Context:
    """A context without calibration, for schemes that need none."""
    return Context(dims, Path("no-graph"), None, Path("no-directory"), LARGEST_FILE)


def assemble(
    graph: Tiny, inputs: Sequence[contract.Port], outputs: Sequence[contract.Port], opset: int = contract.OPSET
) -> onnx.ModelProto:
    """A checked model of the graph."""
    tensors = [numpy_helper.from_array(array, name) for name, array in graph.weights.items()]
    domains = sorted({node.domain for node in graph.nodes} - {""})
    proto = helper.make_graph(graph.nodes, "tiny", list(map(_port, inputs)), list(map(_port, outputs)), tensors)
    model = helper.make_model(
        proto,
        opset_imports=[helper.make_opsetid("", opset), *(helper.make_opsetid(name, 1) for name in domains)],
        ir_version=contract.IR_VERSION,
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def _port(port: contract.Port) -> onnx.ValueInfoProto:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(port.dtype))
    return helper.make_tensor_value_info(port.name, kind, list(port.axes))


def _mask(graph: Tiny) -> str:
    total = graph.op("Gather", graph.op("Shape", "attention_mask"), np.array(1), axis=0)
    length = graph.op("Gather", graph.op("Shape", "input_ids"), np.array(1), axis=0)
    keys = graph.op("Range", np.array(0, np.int64), total, np.array(1, np.int64))
    queries = graph.op("Range", graph.op("Sub", total, length), total, np.array(1, np.int64))
    causal = graph.op("LessOrEqual", keys, graph.op("Unsqueeze", queries, np.array([1])))
    kept = graph.op("Unsqueeze", graph.op("Cast", "attention_mask", to=TensorProto.BOOL), np.array([1, 2]))
    return str(graph.op("And", causal, kept))


def _attention(graph: Tiny, x: str, mask: str, layer: int) -> str:
    dims = graph.dims
    joint = graph.linear(x, f"h.{layer}.qkv", 3 * dims.hidden)
    parts = graph.op("Split", joint, np.array([dims.hidden] * 3), outputs=3, axis=2)
    split = graph.constant(np.array([0, 0, dims.heads, dims.head_dim]))
    query, key, value = (graph.op("Transpose", graph.op("Reshape", p, split), perm=[0, 2, 1, 3]) for p in parts)
    for name, part in (("key", key), ("value", value)):
        graph.op("Concat", f"past_key_values.{layer}.{name}", part, name=f"present.{layer}.{name}", axis=-2)
    query = graph.op("Mul", query, np.array(dims.head_dim**-0.5, np.float32))
    scores = graph.op("MatMul", query, graph.op("Transpose", f"present.{layer}.key", perm=[0, 1, 3, 2]))
    masked = graph.op("Where", mask, scores, np.array(-1e4, np.float32))
    mixed = graph.op("MatMul", graph.op("Softmax", masked, axis=-1), f"present.{layer}.value")
    merged = graph.op("Reshape", graph.op("Transpose", mixed, perm=[0, 2, 1, 3]), np.array([0, 0, dims.hidden]))
    return graph.linear(merged, f"h.{layer}.proj", dims.hidden)


def _gelu(graph: Tiny, x: str) -> str:
    cubed = graph.op("Mul", graph.op("Pow", x, np.array(3, np.float32)), np.array(0.044715, np.float32))
    inner = graph.op("Mul", graph.op("Add", x, cubed), np.array((2 / np.pi) ** 0.5, np.float32))
    outer = graph.op("Add", graph.op("Tanh", inner), np.array(1, np.float32))
    return str(graph.op("Mul", graph.op("Mul", x, np.array(0.5, np.float32)), outer))


def session(model: onnx.ModelProto | ir.Model, level: str = LEVELS[0]) -> onnxruntime.InferenceSession:
    """A CPU session of the model at an optimization level."""
    proto = ir.to_proto(model) if isinstance(model, ir.Model) else model
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(
    runner: onnxruntime.InferenceSession, ids: Array, mask: Array, cache: Mapping[str, Array] | None = None
) -> tuple[Array, dict[str, Array]]:
    """Logits [batch, length, vocabulary] and the grown cache, keyed as inputs."""
    feed = {"input_ids": ids, "attention_mask": mask, "position_ids": positions(mask)[:, -ids.shape[1] :]}
    for port in runner.get_inputs()[3:]:
        feed[port.name] = np.zeros((len(ids), port.shape[1], 0, port.shape[3]), np.float32)
    names = [port.name for port in runner.get_outputs()]
    results = dict(zip(names, runner.run(None, {**feed, **(cache or {})}), strict=True))
    return results.pop("logits"), {name.replace("present", "past_key_values"): v for name, v in results.items()}


def positions(mask: Array) -> Array:
    """Position ids of left-padded rows."""
    return np.where(mask == 1, np.cumsum(mask, axis=1) - 1, 1)


def batch(dims: Dimensions = DIMS) -> tuple[Array, Array]:
    """Ids and mask [4, 9], left-padded; the last row is padding throughout."""
    ids = np.random.default_rng(3).integers(0, dims.vocabulary, (4, 9))
    mask = (np.arange(9) >= np.array([[0], [4], [8], [9]])).astype(np.int64)
    return ids, mask
