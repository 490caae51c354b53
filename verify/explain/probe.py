"""In the candidate's process: run a graph as it is, and cut: every known tensor replaced by its true value.

The cut gives each node the reference's true inputs, so what it makes of them is its own error and nobody else's.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from model.truth import Truth
from verify.candidate.session import Candidate
from verify.candidate.subgraph import QUANTIZED
from verify.check import Array, Case, Partial
from verify.explain import constants
from verify.explain.compare import Gap, gap
from verify.explain.graph import Graph, decoded
from verify.explain.known import KnownCall, load_parameters
from verify.explain.running import Opened, open_graph, optimized

SAME = 1e-4  # relative; a tensor this near to a known one is that one


def judge(candidate: Candidate, case: Case) -> Partial:
    """Rows for every node in the graph's order: its tensors, their errors in the whole run and from true inputs.

    `case` is one call of `truth.calls`; facts say where `parameters` lie, the `baseline` file if there is one, whether
    the file is looked at as onnxruntime optimizes it, and whether each row is run alone too.
    """
    given = KnownCall.of(case, load_parameters(Path(case.facts["parameters"])))
    path, home = candidate.path, Path(case.facts["parameters"]).parent
    graph = Graph.load(optimized(path, candidate.level, home / "optimized.onnx") if case.facts["optimized"] else path)
    clean = _twin(graph, case.facts["baseline"])
    found = constants.differences(graph, given, clean)
    try:
        opened = open_graph(graph, given)
    except Exception as error:  # noqa: BLE001  # onnxruntime's own, of a graph that does not run: that is the finding
        return {"nodes": [], "constants": found, "error": f"{type(error).__name__}: {error}"}
    other = open_graph(clean, given) if clean else None
    alone = _rows_alone(opened, given) if case.facts["rows_alone"] else {}
    seen = Seen(opened, other, dict(_matches(opened, given)), given.named, alone)
    rows = [*_folded(seen), *(_row(seen, node) for node in graph.model.graph.node if node.output)]
    return {"nodes": rows, "constants": found}


@dataclass(frozen=True)
class Seen:
    """Everything known about a graph's tensors: its runs, the built variant's, what each is, what is true."""

    opened: Opened
    other: Opened | None
    matched: Mapping[str, str]
    known: Mapping[str, Truth]
    alone: Mapping[str, Gap]

    @functools.cached_property
    def decoded(self) -> frozenset[str]:
        """Return what is made of quantized codes."""
        return decoded(self.opened.graph, self.opened.names)

    @property
    def half(self) -> bool:
        """Return whether weights are kept in float16, so that values in float16 are what was asked for."""
        return any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in self.opened.graph.constants.values())


def _twin(graph: Graph, path: str) -> Graph | None:
    """The built variant, if it is a graph of the same form: most of the nodes have their names there."""
    if not path:
        return None
    clean = Graph.load(Path(path))
    names, others = ({one.label(node) for node in one.model.graph.node} for one in (graph, clean))
    return clean if len(names & others) * 2 > len(others) else None


def _rows_alone(opened: Opened, given: KnownCall) -> dict[str, Gap]:
    """Measure how far each tensor of a row moves when that row, from the same true inputs, is run without others."""
    worst: dict[str, Gap] = {}
    for row in range(len(given.call.arrays["ids"])):
        single = open_graph(opened.graph, given.row(row))
        for name, value in single.local.items():
            found = gap(_row_of(opened.local[name], value, row), Truth(value))
            if name not in worst or found.relative > worst[name].relative:
                worst[name] = found
    return worst


def _row_of(together: Array, alone: Array, row: int) -> Array:
    """One row of a batch's tensor, along the axis that is shorter when the row is alone."""
    axes = [i for i, (a, b) in enumerate(zip(together.shape, alone.shape, strict=False)) if a != b]
    return together.take([row], axis=axes[0]) if len(axes) == 1 else together


def _matches(opened: Opened, given: KnownCall) -> Iterator[tuple[str, str]]:
    """Tensors without a name of the reference's that, made from true inputs, have the value of a known one.

    Steps of attention come first: `blame` reads from their words what may be read where.
    """
    waiting = {
        name: value
        for name, value in opened.local.items()
        if name not in opened.names and (value.dtype != np.int64 or value.ndim == 2) and value.size > 1
    }
    for name, truth in itertools.chain(given.spelt_out(), given.named.items()) if waiting else ():
        for tensor in [t for t, value in waiting.items() if value.size == truth.value.size]:
            if _is(waiting[tensor], truth):
                del waiting[tensor]
                yield tensor, name


def _is(value: Array, truth: Truth) -> bool:
    """Return whether a value is this true one, axes of length one aside."""
    squeezed = [size for size in value.shape if size != 1] == [size for size in truth.value.shape if size != 1]
    boolean = (value.dtype == np.bool_) == (truth.value.dtype == np.bool_)
    return squeezed and boolean and gap(value, truth).relative <= SAME


def _folded(seen: Seen) -> Iterator[dict[str, Any]]:
    """Constants under the name of what should be computed: what onnxruntime's optimizer, or an exporter, folded."""
    for name in seen.opened.graph.constants:
        if name in seen.known:
            value = seen.opened.graph.array(name)
            kind = {"computed": [], "inputs": [], "float16": False, "rounded": False}
            table = gap(value, seen.known[name]).table()
            entry = {"tensor": name, "known_as": name, "anchored": True, "kind": str(value.dtype), "local": table}
            entry |= {"shape": list(value.shape), "whole": table}
            yield {"name": name, "op_type": "constant", "outputs": [entry], **kind}


def _row(seen: Seen, node: Any) -> dict[str, Any]:
    whole = seen.opened.whole
    computed = [name for name in node.input if name in whole]
    return {
        "name": seen.opened.graph.label(node),
        "op_type": node.op_type,
        "inputs": [name for name in node.input if name],
        "computed": computed,
        "rounded": node.op_type in QUANTIZED or any(name in seen.decoded for name in node.output),
        "outputs": [_tensor(seen, name) for name in node.output if name in whole],
        "float16": seen.half
        and any(whole[name].dtype == np.float16 for name in (*computed, *node.output) if name in whole),
    }


def _tensor(seen: Seen, name: str) -> dict[str, Any]:
    value, known_as = seen.opened.local[name], seen.opened.names.get(name)
    truth = seen.known[known_as] if known_as else None
    result: dict[str, Any] = {
        "tensor": name,
        "known_as": known_as or seen.matched.get(name),
        "anchored": truth is not None,
        "kind": str(value.dtype),
        "shape": list(value.shape),
    }
    if truth is not None:
        result |= {"local": gap(value, truth).table(), "whole": gap(seen.opened.whole[name], truth).table()}
    if seen.other is not None and name in seen.other.local:
        base = seen.other.local[name]
        real = truth.real if truth is not None and truth.value.shape == value.shape else None
        result["baseline"] = (gap(value, Truth(base, real)) if base.shape == value.shape else Gap.infinite()).table()
    if name in seen.alone:
        result["alone"] = seen.alone[name].table()
    return result
