"""In the candidate's process: run a graph as it is and cut at every known tensor, and compare both with the truth.

The cut gives each node the reference's true inputs, so what it makes of them is its own error and nobody else's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from artifact.signature import LOGITS_TO_KEEP
from verify.candidate import CACHE_IN, Candidate
from verify.check import Array, Case, Partial
from verify.explain import constants
from verify.explain.compare import Gap, gap
from verify.explain.gpt2 import Definitions, Truth
from verify.explain.graph import TRUE, Graph, anchors, cut, laid_open, parameters_of

SAME = 1e-4  # relative; a tensor this near to a known one is that one


def judge(candidate: Candidate, case: Case) -> Partial:
    """Rows for every node in the graph's order: its tensors, their errors in the whole run and from true inputs.

    `case` is one call of `truth.calls`; facts say where `parameters` lie, and the `baseline` file, if there is one.
    """
    parameters = _parameters(Path(case.facts["parameters"]))
    definitions = Definitions(case, parameters)
    known = definitions.named()
    graph = Graph.load(candidate.path)
    clean = _twin(graph, case.facts["baseline"])
    found = constants.differences(graph, parameters, clean, case.facts["config"])
    try:
        opened = _open(graph, case, known, parameters)
    except Exception as error:  # noqa: BLE001  # onnxruntime's own, of a graph that does not run: that is the finding
        return {"nodes": [], "constants": found, "error": f"{type(error).__name__}: {error}"}
    other = _open(clean, case, known, parameters) if clean else None
    matched = dict(_matches(opened, definitions))
    rows = [_row(opened, other, node, matched, known) for node in graph.model.graph.node if node.output]
    return {"nodes": rows, "constants": found}


def _twin(graph: Graph, path: str) -> Graph | None:
    """The built variant, if it is a graph of the same form: most of the nodes have their names there."""
    if not path:
        return None
    clean = Graph.load(Path(path))
    names, others = ({one.label(node) for node in one.model.graph.node} for one in (graph, clean))
    return clean if len(names & others) * 2 > len(others) else None


@dataclass(frozen=True)
class Opened:
    """A graph, its values in the whole run, its values from true inputs, and which tensor is which true one."""

    graph: Graph
    whole: Mapping[str, Array]
    local: Mapping[str, Array]
    names: Mapping[str, str]


def _parameters(directory: Path) -> dict[str, Array]:
    return {path.stem: np.load(path, mmap_mode="r", allow_pickle=False) for path in sorted(directory.glob("*.npy"))}


def _open(graph: Graph, case: Case, known: Mapping[str, Truth], parameters: Mapping[str, Array]) -> Opened:
    """Run a graph twice. An anchored tensor whose size is not the true one's stays uncut: it is reported as such."""
    whole = _run(laid_open(graph), graph, case, {})
    names = {t: n for t, n in anchors(graph, known, parameters_of(graph, parameters)).items() if t in whole}
    true = {
        tensor: known[name].value.astype(whole[tensor].dtype).reshape(whole[tensor].shape)
        for tensor, name in names.items()
        if known[name].value.size == whole[tensor].size and _same_kind(known[name].value, whole[tensor])
    }
    return Opened(graph, whole, _run(cut(graph, true), graph, case, true), names)


def _same_kind(a: Array, b: Array) -> bool:
    return np.issubdtype(a.dtype, np.floating) == np.issubdtype(b.dtype, np.floating)


def _run(model: bytes, graph: Graph, case: Case, true: Mapping[str, Array]) -> dict[str, Array]:
    """All computed tensors of one run, by name. Optimizations are off: they would fuse nodes away."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feeds = {name + TRUE: np.ascontiguousarray(value) for name, value in true.items()}
    for port in session.get_inputs():
        if port.name not in feeds:
            feeds[port.name] = _feed(port, case)
    if case.facts["keep"] and any(port.name == LOGITS_TO_KEEP for port in session.get_overridable_initializers()):
        feeds[LOGITS_TO_KEEP] = np.array(case.facts["keep"], np.int64)
    return dict(zip(graph.tensors, session.run(graph.tensors, feeds), strict=True))


def _feed(port: Any, case: Case) -> Array:
    """The value of a graph input: ids, mask, positions, or the reference's cache (empty before the first call)."""
    plain = {"input_ids": "ids", "attention_mask": "mask", "position_ids": "positions"}
    if port.name in plain:
        return np.ascontiguousarray(case.arrays[plain[port.name]])
    name = "past." + port.name.removeprefix(CACHE_IN)
    dtype = np.float16 if port.type == "tensor(float16)" else np.float32
    if name in case.arrays:
        return np.ascontiguousarray(case.arrays[name].astype(dtype))
    _, heads, _, width = port.shape
    return np.zeros((len(case.arrays["ids"]), heads, 0, width), dtype)


def _matches(opened: Opened, definitions: Definitions) -> Iterator[tuple[str, str]]:
    """Tensors without a name of the reference's that, made from true inputs, have the value of a known one."""
    waiting = {
        name: value
        for name, value in opened.local.items()
        if name not in opened.names and (value.dtype != np.int64 or value.ndim == 2) and value.size > 1
    }
    named = [*definitions.named().items()] if waiting else []
    spelt = (entry for layer in range(definitions.layers if waiting else 0) for entry in definitions.library(layer))
    for name, truth in (*named, *spelt):
        for tensor in [t for t, value in waiting.items() if value.size == truth.value.size]:
            if _is(waiting[tensor], truth):
                del waiting[tensor]
                yield tensor, name


def _is(value: Array, truth: Truth) -> bool:
    """Whether a value is this true one, axes of length one aside."""
    squeezed = [size for size in value.shape if size != 1] == [size for size in truth.value.shape if size != 1]
    boolean = (value.dtype == np.bool_) == (truth.value.dtype == np.bool_)
    return squeezed and boolean and gap(value, truth).relative <= SAME


def _row(
    opened: Opened, other: Opened | None, node: Any, matched: Mapping[str, str], known: Mapping[str, Truth]
) -> dict[str, Any]:
    graph = opened.graph
    computed = [name for name in node.input if name in opened.whole]
    return {
        "name": graph.label(node),
        "op_type": node.op_type,
        "inputs": [name for name in node.input if name],
        "computed": computed,
        "outputs": [
            _tensor(opened, other, name, matched, known) for name in node.output if name and name in opened.local
        ],
        "float16": any(
            opened.whole[name].dtype == np.float16 for name in (*computed, *node.output) if name in opened.whole
        ),
    }


def _tensor(
    opened: Opened, other: Opened | None, name: str, matched: Mapping[str, str], known: Mapping[str, Truth]
) -> dict[str, Any]:
    truth = known.get(opened.names.get(name, ""))
    value = opened.local[name]
    result: dict[str, Any] = {"tensor": name, "known_as": opened.names.get(name) or matched.get(name)}
    result["anchored"], result["kind"] = truth is not None, str(value.dtype)
    result["shape"] = list(value.shape)
    if truth is not None:
        result |= {"local": gap(value, truth).table(), "whole": gap(opened.whole[name], truth).table()}
    if other is not None and name in other.local:
        base = other.local[name]
        real = truth.real if truth is not None and truth.value.shape == value.shape else None
        result["baseline"] = (gap(value, Truth(base, real)) if base.shape == value.shape else Gap.infinite()).table()
    return result
