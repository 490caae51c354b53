"""In the candidate's process: what each module makes in the run as it is, and what it makes of the reference's input.

One run of the graph as it is shows the error that has gathered up to each module. One run of the graph cut at what the
modules read, where the reference's values are fed, shows each module's own.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from model.truth import Truth
from verify.candidate.session import Candidate
from verify.check import Array, Case, Partial
from verify.explain.compare import gap
from verify.explain.graph import Graph, anchors, cut, laid_open, parameters_of
from verify.explain.known import KnownCall, load_parameters
from verify.explain.running import ask, true_values
from verify.layers.modules import NOT_FINITE, ReportedModule, modules

UNKNOWN = "no value in the graph is known to be what it makes"
OPEN = "no value in the graph is known to be what it reads"
SHAPE = "what the graph makes there has another size"


@dataclass(frozen=True)
class ModuleInGraph:
    """A module in a graph: the tensor that it makes and the true value of that; the tensors that it reads."""

    module: ReportedModule
    tensor: str | None
    truth: Truth | None
    read: tuple[str, ...]


def judge(candidate: Candidate, case: Case) -> Partial:
    """Return `modules`: a row for each with `error`, `own` (shares, None: not measured) and the `reason` of a None.

    `case` is a call of `verify.explain.truth.calls`, without past; facts say where the `parameters` lie.
    """
    given = KnownCall.of(case, load_parameters(Path(case.facts["parameters"])))
    graph = Graph.load(candidate.path)
    places = list(_places(graph, given))
    names = list(dict.fromkeys(name for place in places for name in (*place.read, place.tensor) if name is not None))
    if not names:
        return {"modules": [_row(place, {}, {}, frozenset()) for place in places]}
    whole = ask(candidate.open(laid_open(graph, names)), names, given.call, {})
    inputs = {name: given.named[place.module.reads] for place in places if place.module.reads for name in place.read}
    true = true_values(whole, inputs)
    local = ask(candidate.open(cut(graph, true, names)), names, given.call, true) if true else {}
    return {"modules": [_row(place, whole, local, frozenset(true)) for place in places]}


def _places(graph: Graph, given: KnownCall) -> Iterator[ModuleInGraph]:
    """Find the modules: a tensor is found by any name of its true value, for several names may be one value's."""
    known = given.named
    found = anchors(graph, known, parameters_of(graph, given.call.parameters), given.at.embedding)
    tensors: dict[bytes, list[str]] = defaultdict(list)
    # A copy in float16 of a value that has its own name is left alone: as an output it would be rounded, where
    # onnxruntime otherwise leaves casts out.
    named = {name for name in graph.tensors if name in known}
    for name in graph.tensors:
        if name in named or (name in found and found[name] not in named):
            tensors[_digest(known[found[name]].value)].append(name)
    for module in modules(given.at):
        made = ((name, tensors.get(_digest(known[name].value))) for name in module.makes if name in known)
        name, here = next(((name, places) for name, places in made if places), ("", None))
        read = () if module.reads is None else tensors.get(_digest(known[module.reads].value), ())
        yield ModuleInGraph(module, here[-1] if here else None, known.get(name), tuple(read))


def _digest(value: Array) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(value).tobytes() + str(value.dtype).encode()).digest()


def _row(
    place: ModuleInGraph, whole: Mapping[str, Array], local: Mapping[str, Array], cut_at: frozenset[str]
) -> dict[str, Any]:
    row: dict[str, Any] = {"name": place.module.name, "error": None, "own": None, "reason": UNKNOWN}
    if place.tensor is None or place.truth is None:
        return row
    row["error"], row["reason"] = _share(whole[place.tensor], place.truth)
    if row["reason"] is None and place.module.reads is None:
        row["own"] = row["error"]
    elif row["reason"] is None and not (place.read and cut_at.issuperset(place.read)):
        row["reason"] = OPEN
    elif row["reason"] is None:
        row["own"], row["reason"] = _share(local[place.tensor], place.truth)
    return row


def _share(value: Array, truth: Truth) -> tuple[float | None, str | None]:
    """||value - truth|| / ||truth||, or why there is none."""
    if value.size != truth.value.size:
        return None, SHAPE
    found = gap(value, truth).rms
    return (None, NOT_FINITE) if found is None else (float(f"{found:.4g}"), None)
