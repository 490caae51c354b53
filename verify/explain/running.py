"""Run a graph laid open: every tensor of the run as it is, and of the run from true inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from model.contract import CACHE_IN, CACHE_OUT, LOGITS_TO_KEEP
from model.session import data_in, open_session, options
from model.truth import Call, Truth
from verify.candidate.session import empty
from verify.candidate.untrusted import external
from verify.check import Array
from verify.explain.graph import TRUE, Graph, anchors, cut, laid_open, parameters_of
from verify.explain.known import KnownCall


@dataclass(frozen=True)
class Opened:
    """A graph, its values in the whole run, its values from true inputs, and which tensor is which true one."""

    graph: Graph
    whole: Mapping[str, Array]
    local: Mapping[str, Array]
    names: Mapping[str, str]


def open_graph(graph: Graph, given: KnownCall) -> Opened:
    """Run a graph twice. An anchored tensor whose size is not the true one's stays uncut: it is reported as such."""
    call, known = given.call, given.named
    whole = run(laid_open(graph), graph, call, {})
    found = anchors(graph, known, parameters_of(graph, call.parameters), given.at.embedding)
    names = {tensor: name for tensor, name in found.items() if tensor in whole}
    true = true_values(whole, {tensor: known[name] for tensor, name in names.items()})
    return Opened(graph, whole, run(cut(graph, true), graph, call, true), names)


def true_values(whole: Mapping[str, Array], known: Mapping[str, Truth]) -> dict[str, Array]:
    """True values by tensor, in the tensors' types and shapes; without those of another size or kind."""
    return {
        tensor: truth.value.astype(whole[tensor].dtype).reshape(whole[tensor].shape)
        for tensor, truth in known.items()
        if truth.value.size == whole[tensor].size and _same_kind(truth.value, whole[tensor])
    }


def _same_kind(a: Array, b: Array) -> bool:
    return np.issubdtype(a.dtype, np.floating) == np.issubdtype(b.dtype, np.floating)


def run(model: bytes, graph: Graph, call: Call, true: Mapping[str, Array]) -> dict[str, Array]:
    """All computed tensors of one run, by name. Optimizations are off: they would fuse nodes away."""
    plain = options("disable_all")
    plain.enable_cpu_mem_arena = False
    plain.add_session_config_entry(*data_in(graph.directory))
    return ask(open_session(model, plain), graph.tensors, call, true)


def ask(session: Any, names: Sequence[str], call: Call, true: Mapping[str, Array]) -> dict[str, Array]:
    """Outputs of one run, by name; `true` is fed where the graph was cut."""
    feeds = {name + TRUE: np.ascontiguousarray(value) for name, value in true.items()}
    for port in session.get_inputs():
        if port.name not in feeds:
            feeds[port.name] = _feed(port, call)
    if call.keep and any(port.name == LOGITS_TO_KEEP for port in session.get_overridable_initializers()):
        feeds[LOGITS_TO_KEEP] = np.array(call.keep, np.int64)
    return dict(zip(names, session.run(list(names), feeds), strict=True))


def _feed(port: Any, call: Call) -> Array:
    """The value of a graph input: ids, mask, positions, or the reference's cache (empty before the first call)."""
    plain = {"input_ids": "ids", "attention_mask": "mask", "position_ids": "positions"}
    if port.name in plain:
        return np.ascontiguousarray(call.arrays[plain[port.name]])
    name = "past." + port.name.removeprefix(CACHE_IN)
    if name in call.arrays:
        dtype = np.float16 if port.type == "tensor(float16)" else np.float32
        return np.ascontiguousarray(call.arrays[name].astype(dtype))
    present = call.arrays[CACHE_OUT + port.name.removeprefix(CACHE_IN)]
    return empty(port, len(present), (present.shape[1], present.shape[3]))


def optimized(path: Path, level: str, target: Path) -> Path:
    """The file as onnxruntime's optimizer leaves it at a level, written to `target`."""
    saving = options(level)
    saving.optimized_model_filepath = str(target)
    if external.files(onnx.load(path, load_external_data=False), path.parent):
        saving.add_session_config_entry(
            "session.optimized_model_external_initializers_file_name", f"{target.name}_data"
        )
    open_session(path, saving)
    return target
