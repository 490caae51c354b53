"""Find what is wrong with a node, where its constants tell: weights, biases, epsilon, scale, operator, what it reads.

Compared with the reference's parameters and config, and with the built variant of the same name where there is one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx

from verify.check import Array
from verify.explain.graph import NORMS, Graph, parameters_of
from verify.explain.known import KnownCall
from verify.explain.rounding import wrong_blocks

ROUNDED = 1e-3  # relative: float16 keeps 5e-4 of a value


def differences(graph: Graph, given: KnownCall, baseline: Graph | None) -> list[dict[str, Any]]:
    """Everything found, as {node, op_type, makes, what}, in the graph's order."""
    parameters = given.call.parameters
    known = parameters_of(graph, parameters)
    twins = {baseline.label(node): node for node in baseline.model.graph.node} if baseline else {}
    found = []
    counts = Counter(tensor.name for tensor in graph.model.graph.initializer)
    for node in graph.model.graph.node:
        lines = [*_weights(graph, node, known, parameters), *_settings(graph, node, known, given)]
        if baseline is None:
            lines += wrong_blocks(graph, node, known, parameters)
        else:
            lines += _beside(graph, node, baseline, twins.get(graph.label(node)))
        lines += [f"initializer {name} exists {counts[name]} times" for name in node.input if counts[name] > 1]
        about = {"node": graph.label(node), "op_type": node.op_type, "makes": [name for name in node.output if name]}
        found += [{**about, "what": line} for line in dict.fromkeys(lines)]
    return found


def _weights(graph: Graph, node: Any, known: Mapping[str, str], parameters: Mapping[str, Array]) -> Iterator[str]:
    """Constants that are a whole parameter, kept as floats."""
    for name in node.input:
        parameter, tensor = known.get(name), graph.constants.get(name)
        if parameter is None or tensor is None or tensor.data_type not in (1, 10):
            continue
        value, wanted = graph.array(name), parameters[parameter]
        if value.shape != wanted.shape and value.T.shape == wanted.shape:
            value = value.T
        if name == parameter and value.shape != wanted.shape:
            yield f"initializer {name} has the shape {value.shape}, the reference's {wanted.shape}"
        elif value.shape == wanted.shape:
            tolerance = ROUNDED if value.dtype == np.float16 else 0.0
            yield from _different(name, value.astype(np.float32), np.asarray(wanted), tolerance, "the reference's")


def _different(name: str, value: Array, wanted: Array, tolerance: float, whose: str) -> Iterator[str]:
    gaps = np.abs(value.astype(np.float64) - wanted.astype(np.float64))
    wrong = ~(gaps <= tolerance * np.abs(wanted) + (6e-8 if tolerance else 0))
    if wrong.any():
        first = tuple(int(i) for i in np.argwhere(wrong)[0])
        worst = np.abs(gaps[wrong]).max()
        yield (
            f"initializer {name} differs from {whose} in {int(wrong.sum())} of {wrong.size} elements, "
            f"by at most {worst:.3g}; the first at {list(first)}: {value[first]:.6g}, not {wanted[first]:.6g}"
        )


def _settings(graph: Graph, node: Any, known: Mapping[str, str], given: KnownCall) -> Iterator[str]:
    """Epsilon of norms, heads and scale of attention against the config."""
    have = {attribute.name: attribute for attribute in node.attribute}
    own, config = given.own, given.call.config
    if node.op_type in NORMS and any(name in known for name in node.input):
        epsilon = have["epsilon"].f if "epsilon" in have else 1e-5
        wanted = float(config[own.config.EPSILON])
        if not np.isclose(epsilon, wanted, rtol=1e-5, atol=0):
            yield f"epsilon is {epsilon:.6g}, the config says {wanted:.6g}"
    for number, layer in enumerate(given.at.layers):
        scale, tolerance = None, 1e-5
        if layer.attended in node.output:
            stated = config[own.config.HEADS]
            if "num_heads" in have and have["num_heads"].i != stated:
                yield f"num_heads is {have['num_heads'].i}, the config says {stated}"
            scale = have["scale"].f if "scale" in have else None
        elif layer.scaled in node.output:
            constants = [graph.array(n) for n in node.input if n in graph.constants]
            for value in constants:
                scale, tolerance = float(value.item()), ROUNDED if value.dtype == np.float16 else tolerance
        wanted = own.reference_values.scale(config, number)
        if scale is not None and not np.isclose(scale, wanted, rtol=tolerance, atol=0):
            yield f"scale is {scale:.6g}, by definition it is {wanted:.6g}"


def _beside(graph: Graph, node: Any, baseline: Graph, twin: Any) -> Iterator[str]:
    """A node against the one of the same name in the built variant."""
    if twin is None:
        yield "the built variant has no node of this name"
        return
    if node.op_type != twin.op_type:
        yield f"the operator is {node.op_type}, the built variant has {twin.op_type}"
    for i, (have, wanted) in enumerate(_pairs(node.input, twin.input)):
        if have != wanted:
            yield f"input {i} is {have or 'absent'}, the built variant reads {wanted or 'nothing'}"
        elif have in graph.constants and wanted in baseline.constants:
            a, b = (g.array(have) for g in (graph, baseline))
            if a.shape != b.shape:
                yield f"initializer {have} has the shape {a.shape}, the built variant's {b.shape}"
            else:
                yield from _different(have, a, b, 0.0, "the built variant's")
    if list(node.output) != list(twin.output) and not _taken_over(graph, node, baseline, twin):
        have, wanted = (", ".join(filter(None, one.output)) for one in (node, twin))
        yield f"it makes {have}, in the built variant {wanted}"
    ours, theirs = ({a.name: onnx.helper.get_attribute_value(a) for a in n.attribute} for n in (node, twin))
    for name in sorted({*ours, *theirs}):
        if ours.get(name) != theirs.get(name):
            yield f"{name} is {ours.get(name)}, in the built variant {theirs.get(name)}"


def _taken_over(graph: Graph, node: Any, baseline: Graph, twin: Any) -> bool:
    """Return whether nodes that the built variant lacks make what this one made: then it is they that are wrong."""
    lost = set(twin.output) - set(node.output)
    names = {baseline.label(entry) for entry in baseline.model.graph.node}
    return bool(lost) and all(name in graph.makers and graph.label(graph.makers[name]) not in names for name in lost)


def _pairs(a: Any, b: Any) -> Iterator[tuple[str, str]]:
    for i in range(max(len(a), len(b))):
        yield (a[i] if i < len(a) else ""), (b[i] if i < len(b) else "")
