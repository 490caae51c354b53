"""Change a graph: its initializers, whatever form a weight is stored in, and the nodes between two values."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from pipeline.variants import model_file
from verify.check import Array
from verify.faults.fault import InapplicableError, Subject

Change = Callable[["Graft", str], str]
RIGHT = ".right"  # ending of the right value's name where a wrong one took it


def tensor(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    """The initializer of this name."""
    found: onnx.TensorProto | None = next((entry for entry in model.graph.initializer if entry.name == name), None)
    if found is None:
        raise InapplicableError(f"no initializer {name}")
    return found


def read(model: onnx.ModelProto, name: str) -> Array:
    """A copy of an initializer's values."""
    return numpy_helper.to_array(tensor(model, name)).copy()


def write(model: onnx.ModelProto, name: str, value: Array) -> None:
    """Replace an initializer's values; their type stays."""
    entry = tensor(model, name)
    kept = value.astype(helper.tensor_dtype_to_np_dtype(entry.data_type))
    entry.CopyFrom(numpy_helper.from_array(np.asarray(kept, order="C"), name))


def constant(model: onnx.ModelProto, name: str, value: Any) -> str:
    """A new initializer."""
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return name


def beside(subject: Subject, name: str) -> Path:
    """The file of this name beside the graph; InapplicableError where the model has none."""
    path = subject.files / name
    if not path.is_file():
        raise InapplicableError(f"no {name} lies beside the graph")
    return path


def edit(subject: Subject, name: str, change: Callable[[Any], object]) -> None:
    """Change a JSON file beside the graph."""
    path = beside(subject, name)
    table = json.loads(path.read_text(encoding="utf-8"))
    change(table)
    path.write_text(json.dumps(table, ensure_ascii=False), encoding="utf-8")


def end_of(subject: Subject) -> int:
    """The token that ends a text."""
    table = json.loads((subject.files / "config.json").read_text(encoding="utf-8"))
    return int(table["eos_token_id"])


def read_entry_norms(subject: Subject) -> Array:
    """The size of every token's entry in the fp32 variant's table, float32 [vocabulary]."""
    table = read(onnx.load(subject.clean / "fp32" / model_file("fp32")), f"{subject.at.embedding}.weight")
    norms: Array = np.linalg.norm(table, axis=0 if len(table) == subject.dims.hidden else 1)
    return norms


def parts(model: onnx.ModelProto, weight: str) -> list[str]:
    """The initializers that a weight is stored in: itself, or codes, scales and zero points."""
    found = [t.name for t in model.graph.initializer if t.name == weight or t.name.startswith(f"{weight}.")]
    return [name for name in found if not name.endswith(".rows")]


def is_quantized(model: onnx.ModelProto, weight: str) -> bool:
    """Return whether a weight is stored as codes and scales."""
    return weight not in parts(model, weight)


def change_outputs(model: onnx.ModelProto, weight: str, change: Callable[[Array], Array], *, scales: bool) -> None:
    """Apply `change` to a weight seen with its outputs (of a table: its entries) as rows.

    A quantized weight's scales are changed, or with `scales=False` all of its parts, as a permutation must.
    """
    if not is_quantized(model, weight):
        write(model, weight, change(read(model, weight).T).T)
    elif scales:
        change_scales(model, weight, change)
    elif (stems := tiers(model, weight)) != [weight]:
        _move_rows(model, stems, change)
    else:
        for name in parts(model, weight):
            write(model, name, change(read(model, name)))


def change_entries(model: onnx.ModelProto, table: str, change: Callable[[Array], Array]) -> None:
    """Apply `change` to a table of which rows are looked up; of a quantized one to its scales."""
    if is_quantized(model, table):
        change_scales(model, table, change)
    else:
        write(model, table, change(read(model, table)))


def change_scales(model: onnx.ModelProto, weight: str, change: Callable[[Array], Array]) -> None:
    """Apply `change` to a quantized weight's scales, those of all rows."""
    names = [f"{stem}.scales" for stem in tiers(model, weight)]
    found = [read(model, name) for name in names]
    ends = np.cumsum([len(value) for value in found])[:-1]
    for name, value in zip(names, np.split(change(np.concatenate(found)), ends), strict=True):
        write(model, name, value)


def tiers(model: onnx.ModelProto, weight: str) -> list[str]:
    """Return how the initializers of a quantized weight begin: of a table whose first rows have more bits, of both."""
    both = [f"{weight}.frequent", f"{weight}.rest"]
    return both if parts(model, both[0]) else [weight]


def _move_rows(model: onnx.ModelProto, stems: list[str], change: Callable[[Array], Array]) -> None:
    """Give rows other places, each within its tier."""
    start = 0
    counts = [len(read(model, f"{stem}.scales")) for stem in stems]
    order = change(np.arange(sum(counts)))
    for stem, count in zip(stems, counts, strict=True):
        own = order[start : start + count] - start
        if not np.array_equal(np.sort(own), np.arange(count)):
            raise InapplicableError("rows of different bits cannot change places")
        for name in parts(model, stem):
            write(model, name, read(model, name)[own])
        start += count


def operators(model: onnx.ModelProto, kind: str) -> list[onnx.NodeProto]:
    """The nodes of a kind, in order; there must be one."""
    found = [node for node in model.graph.node if node.op_type == kind]
    if not found:
        raise InapplicableError(f"no {kind} in the graph")
    return found


def maker(model: onnx.ModelProto, value: str) -> onnx.NodeProto | None:
    """The node that computes a value; None for an input of the graph."""
    return next((node for node in model.graph.node if value in node.output), None)


def must_make(model: onnx.ModelProto, value: str) -> onnx.NodeProto:
    """The node that computes a value."""
    node = maker(model, value)
    if node is None:
        raise InapplicableError(f"no node computes {value}")
    return node


def attribute(node: onnx.NodeProto, name: str) -> Any:
    """An attribute's value."""
    (found,) = (entry for entry in node.attribute if entry.name == name)
    return helper.get_attribute_value(found)


def set_attribute(node: onnx.NodeProto, name: str, value: float) -> None:
    """Replace an attribute."""
    (old,) = (entry for entry in node.attribute if entry.name == name)
    node.attribute.remove(old)
    node.attribute.append(helper.make_attribute(name, value))


def required(name: str | None, what: str) -> str:
    """The name of a part that not every architecture has."""
    if name is None:
        raise InapplicableError(f"no {what}")
    return name


def position_table(subject: Subject) -> str:
    """The weight that holds an entry for every position."""
    return f"{required(subject.at.positions, 'table of positions')}.weight"


def rename(model: onnx.ModelProto, names: Mapping[str, str]) -> None:
    """Give values that nodes compute other names, for nodes that read them too; outputs of the graph keep theirs."""
    for node in model.graph.node:
        for side in (node.input, node.output):
            for place, name in enumerate(side):
                side[place] = names.get(name, name)


def exchange(model: onnx.ModelProto, one: str, other: str, *, made: bool) -> None:
    """Exchange two values among the nodes that make them (`made`), or among those that read them."""
    names = {one: other, other: one}
    for node in model.graph.node:
        side = node.output if made else node.input
        for place, name in enumerate(side):
            side[place] = names.get(name, name)
    if made:
        _sort(model)


def _sort(model: onnx.ModelProto) -> None:
    """Put each node behind those that it reads from, in the order that they had as far as that goes."""
    waiting = list(model.graph.node)
    unmade = {name for node in waiting for name in node.output}
    ordered: list[onnx.NodeProto] = []
    while waiting:
        node = next(node for node in waiting if not unmade.intersection(node.input))
        waiting.remove(node)
        unmade.difference_update(node.output)
        ordered.append(node)
    del model.graph.node[:]
    model.graph.node.extend(ordered)


def read_instead(model: onnx.ModelProto, old: str, new: str) -> None:
    """Let every node that reads one value read another."""
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            if name == old:
                node.input[place] = new


class Graft:
    """Nodes that are to be put into a graph, named after what they are for."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model
        self._numbers = _unused(model)
        self.nodes: list[onnx.NodeProto] = []

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """A node of one output; the output's name."""
        name = next(self._numbers)
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, domain=domain, **attributes))
        return name

    def number(self, value: Any, dtype: Any = np.float32) -> str:
        """A constant."""
        return constant(self._model, next(self._numbers), np.asarray(value, dtype))

    def size(self, value: str, axis: int) -> str:
        """The size of an axis, int64 [1]."""
        return self.op("Shape", value, start=axis, end=axis + 1)

    def past(self) -> str:
        """Compute how many tokens the cache holds, int64 [1]."""
        return self.op("Sub", self.size("attention_mask", 1), self.size("input_ids", 1))

    def choose(self, condition: str, yes: float, no: float) -> str:
        """One of two float32 numbers."""
        return self.op("Where", condition, self.number(yes), self.number(no))


def _unused(model: onnx.ModelProto) -> Iterator[str]:
    taken = {name for node in model.graph.node for name in node.output} | {t.name for t in model.graph.initializer}
    return (name for number in range(10**6) if (name := f"planted.{number}") not in taken)


def rewire(model: onnx.ModelProto, value: str, change: Change) -> None:
    """Compute a value from what it was: `change` gets the right value's name, returns the wrong one's.

    The wrong value takes the name, so that it is the named value that is wrong; an input of the graph keeps its name,
    and its readers read the wrong one.
    """
    graft, node = Graft(model), maker(model, value)
    if node is None:
        wrong = change(graft, value)
        read_instead(model, value, wrong)
        where = 0
    else:
        right = value + RIGHT
        node.output[list(node.output).index(value)] = right
        wrong = change(graft, right)
        (last,) = (entry for entry in graft.nodes if wrong in entry.output)
        last.output[list(last.output).index(wrong)] = value
        for entry in graft.nodes:  # a change may read its own result's other name nowhere
            if wrong in entry.input:
                raise RuntimeError(f"{wrong} is read before it has its name")
        where = list(model.graph.node).index(node) + 1
    for offset, entry in enumerate(graft.nodes):
        model.graph.node.insert(where + offset, entry)


def scaled_if(condition: Callable[[Graft], str], magnitude: float) -> Change:
    """A change that multiplies a float32 value by 1 + magnitude where a condition on shapes holds."""

    def change(graft: Graft, right: str) -> str:
        return graft.op("Mul", right, graft.choose(condition(graft), 1 + magnitude, 1))

    return change
