"""From a finished graph, write one whose cache may stay in place: past and present share one buffer.

The contract's cache is exactly as long as the text, so every call copies it: at 960 tokens that is most of a step of 8
or 4 bits. Here each layer's attention is one GroupQueryAttention of onnxruntime, which writes behind the past where
both ends of the cache are bound to one buffer (onnxruntime-genai's `past_present_share_buffer`), and grows the cache as
ever where they are not. Padding, windows and causality are the same additive bias as before, and `query_seqlens` says
that every row of a batch has as many new tokens: with both, any mask is answered as by the graph that it comes from.

All else is unchanged, weights included: they stay in the finished file, at the places that this one names, so that it
has 60 to 90 kB of its own. docs/decisions/0034 has the figures and what was rejected.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common as passes

from model import genai_config, stored_bytes
from model.builder import MICROSOFT, Builder
from model.contract import IN_PLACE, Dimensions
from model.external_data import SMALLEST
from pipeline import variants
from pipeline.canonical import canonical_json, read_json
from pipeline.errors import InputError

SWAPPED = (0, 2, 1, 3)  # heads and positions


@dataclass(frozen=True)
class Attention:
    """One layer's attention in a finished graph, all float32.

    query: [batch, heads, sequence, width]; key and value, of this call: [batch, kv_heads, sequence, width]; bias:
    [batch, 1, sequence, total]; heads: what they found, [batch, sequence, heads * width].
    """

    past: tuple[ir.Value, ir.Value]
    present: tuple[ir.Value, ir.Value]
    query: ir.Value
    key: ir.Value
    value: ir.Value
    bias: ir.Value
    scale: float
    heads: ir.Value


def add(home: Path, variant: str, dims: Dimensions) -> None:
    """Give a variant's artifact its graph in place, and let genai_config.json name it. Raises what `write` raises."""
    second = variants.in_place(variant)
    write(home / variants.model_file(variant), home / variants.model_file(second), dims)
    config = home / genai_config.FILE
    if config.is_file():
        config.write_bytes(canonical_json(genai_config.renamed(read_json(config), second)) + b"\n")


def write(graph: Path, target: Path, dims: Dimensions) -> None:
    """Write `target` beside the finished `graph`, whose weights it reads.

    Raises InputError for a graph whose attention is not written as `Builder.attention` writes it.
    """
    model = ir.load(graph)
    builder = Builder(model.graph)
    lengths = _lengths(builder, model)
    for layer in range(dims.layers):
        try:
            attention = _attention(model, builder, layer, grouped=dims.heads != dims.kv_heads)
        except _Unlike as error:
            what = f"attention of layer {layer} is not as this project writes it: {error}"
            raise InputError(what, where=graph, hint="convert and quantize the source with this version") from error
        _replace(attention, _node(builder, layer, attention, lengths, dims))
    model.graph.opset_imports[MICROSOFT] = 1
    model.metadata_props.update(IN_PLACE)
    for step in (passes.RemoveUnusedNodesPass(), passes.TopologicalSortPass()):
        step(model)
    _refer(model, graph)
    ir.save(model, target)


class _Unlike(Exception):  # noqa: N818  # becomes an InputError, which names the layer
    """The graph is another one than `Builder.attention` writes."""


def _attention(model: ir.Model, builder: Builder, layer: int, *, grouped: bool) -> Attention:
    """Follow one layer's attention from its cache; `grouped`: several heads of queries read one of keys."""
    outputs = {value.name: value for value in model.graph.outputs}
    keys, values = (outputs[f"present.{layer}.{part}"] for part in ("key", "value"))
    (past_key, key), (past_value, value) = (_inputs(present, "Concat") for present in (keys, values))
    context = _reader(values, "MatMul").outputs[0]
    (masked,) = _inputs(_inputs(context, "MatMul")[0], "Softmax")
    scores, bias = _inputs(masked, "Add")
    query, scale = _inputs(_inputs(scores, "MatMul")[0], "Mul")
    if grouped:
        query = _ungrouped(builder, query, "Reshape", f"in_place.{layer}.query")
        bias = _ungrouped(builder, bias, "Concat", f"in_place.{layer}.bias")
        context = _reader(context, "Reshape").outputs[0]
    heads = _reader(_reader(context, "Transpose").outputs[0], "Reshape").outputs[0]
    return Attention((past_key, past_value), (keys, values), query, key, value, bias, _number(scale), heads)


def _ungrouped(builder: Builder, value: ir.Value, operator: str, name: str) -> ir.Value:
    """Return what was put together, float32 as the whole is: if it was float16 until then, it is made wide before."""
    whole = _behind(value, "Cast")
    part = _inputs(whole, operator)[0]
    return part if whole is value else builder.op("Cast", [part], name, {"to": ir.DataType.FLOAT})


def _inputs(value: ir.Value, operator: str) -> list[ir.Value]:
    """Return what a value is made from by a node of this operator."""
    node = value.producer()
    if node is None or node.op_type != operator:
        raise _Unlike(f"{value.name} is made by no {operator}")
    return [given for given in node.inputs if given is not None]


def _reader(value: ir.Value, operator: str) -> ir.Node:
    """The one node of an operator that reads a value."""
    nodes = [node for node, _ in value.uses() if node.op_type == operator]
    if len(nodes) != 1:
        raise _Unlike(f"{len(nodes)} nodes {operator} read {value.name}")
    return nodes[0]


def _number(value: ir.Value) -> float:
    if value.const_value is None:
        raise _Unlike(f"{value.name} is no constant")
    return float(value.const_value.numpy())


def _lengths(builder: Builder, model: ir.Model) -> tuple[ir.Value, ir.Value, ir.Value]:
    """Return what nodes are told, int32: the last slot of each row [batch], how many slots [], new tokens [batch]."""
    inputs = {value.name: value for value in model.graph.inputs}
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    narrow, one_axis = {"to": ir.DataType.INT32}, {"start": 1, "end": 2}
    rows = builder.op("Shape", [ids], "in_place.rows", {"start": 0, "end": 1})
    slots = builder.op("Cast", [builder.op("Shape", [mask], "in_place.length", one_axis)], "in_place.slots", narrow)
    total = builder.op("Squeeze", [slots], "in_place.total")
    last = builder.op("Sub", [slots, builder.constant("in_place.one", np.array([1], np.int32))], "in_place.last")
    new = builder.op("Cast", [builder.op("Shape", [ids], "in_place.new", one_axis)], "in_place.tokens", narrow)
    each = [builder.op("Expand", [value, rows], f"{value.name}.each") for value in (last, new)]
    return each[0], total, each[1]


def _node(
    builder: Builder, layer: int, attention: Attention, lengths: Sequence[ir.Value], dims: Dimensions
) -> Sequence[ir.Value]:
    """GroupQueryAttention of one layer: what the heads found, and the cache."""
    last, total, new = lengths
    joint = _joint(attention)
    parts = {"query": attention.query, "key": attention.key, "value": attention.value}
    if joint is None:
        queries: list[ir.Value | None] = [
            _flat(builder, value, f"in_place.{layer}.{part}") for part, value in parts.items()
        ]
    else:  # one tensor of all three: it is read as it is
        name = f"in_place.{layer}.joint"
        wide = attention.query.producer()
        cast = wide is not None and wide.op_type == "Cast"
        queries = [builder.op("Cast", [joint], name, {"to": ir.DataType.FLOAT}) if cast else joint, None, None]
    inputs = [*queries, *attention.past, last, total, *[None] * 3, attention.bias, *[None] * 5, new]
    sizes = {"num_heads": dims.heads, "kv_num_heads": dims.kv_heads, "scale": attention.scale}
    names = [str(value.name) for value in (attention.heads, *attention.present)]
    return builder.ops("GroupQueryAttention", inputs, names, sizes, domain=MICROSOFT)


def _joint(attention: Attention) -> ir.Value | None:
    """The tensor [batch, sequence, 3 * hidden] of which query, key and value are thirds, if there is one."""
    parts = [_behind(value, "Cast") for value in (attention.query, attention.key, attention.value)]
    split = parts[0].producer()
    if split is None or split.op_type != "Split" or list(split.outputs) != parts or split.attributes["axis"].value != 1:
        return None
    turned = _behind(_inputs(parts[0], "Split")[0], "Reshape")
    apart = _behind(turned, "Transpose")
    joint = _behind(apart, "Reshape")
    return None if apart is turned or joint is apart else joint


def _behind(value: ir.Value, operator: str) -> ir.Value:
    """Return what a node of an operator makes a value from; the value itself if another one makes it."""
    node = value.producer()
    return _inputs(value, operator)[0] if node is not None and node.op_type == operator else value


def _flat(builder: Builder, value: ir.Value, name: str) -> ir.Value:
    """[batch, heads, sequence, width] as [batch, sequence, heads * width]."""
    source = _behind(value, "Transpose")
    turned = builder.op("Transpose", [value], f"{name}.turned", {"perm": SWAPPED}) if source is value else source
    return builder.op("Reshape", [turned, builder.vector("in_place.flat", 0, 0, -1)], f"{name}.flat")


def _replace(attention: Attention, outputs: Sequence[ir.Value]) -> None:
    """Let all that read the old attention's results read the new one's, graph outputs and their types included."""
    for old, new in zip((attention.heads, *attention.present), outputs, strict=True):
        new.type, new.shape = old.type, old.shape
        old.replace_all_uses_with(new, replace_graph_outputs=True)


def _refer(model: ir.Model, graph: Path) -> None:
    """Leave the weights where they lie: in the finished file, or all in the one beside it."""
    weights = model.graph.initializers
    if any(isinstance(value.const_value, ir.ExternalTensor) for value in weights.values()):
        return  # what is not in that file is small, and comes along
    known = stored_bytes.places(graph)
    for name, value in weights.items():
        tensor = value.const_value
        if tensor is None or tensor.nbytes < SMALLEST or name not in known:
            continue
        offset, length = known[name]
        value.const_value = ir.ExternalTensor(
            graph.name,
            offset,
            length,
            tensor.dtype,
            shape=ir.Shape(tensor.shape.numpy()),
            name=name,
            base_dir=graph.parent,
        )
