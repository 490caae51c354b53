"""From the rows of a probe to the node: the first whose output is wrong although its inputs were true."""

from __future__ import annotations

import math
import re
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from verify.candidate.embedding import LOOKUPS

FLOAT32 = 1e-5  # relative error that sums in another order explain
FLOAT16 = 4e-3
ROUNDED = 3.0  # times its siblings' error: what no rounding of a weight explains
EQUAL = 1e-6  # relative; the built variant's node, from the same inputs, gives the same
SHARE = 0.01  # of the worst: what is less is noise beside it
SPREADING = ("Add", "And", "Div", "Max", "Min", "Mul", "Or", "Pow", "Sub", "Where")
NUMBER = re.compile(r"\d+")

Row = dict[str, Any]


@dataclass(frozen=True)
class Blame:
    """A node, the tensor it makes wrong, the errors there, and how precisely the graph's names let this be said."""

    node: str
    op_type: str
    tensor: str
    makes: tuple[str, ...]
    known_as: str | None
    local: dict[str, Any]
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    also: tuple[str, ...]
    precision: str


@dataclass(frozen=True)
class _Graph:
    rows: Sequence[Row]
    baseline: bool

    @property
    def makers(self) -> dict[str, Row]:
        return {entry["tensor"]: row for row in self.rows for entry in row["outputs"]}

    @property
    def entries(self) -> dict[str, Row]:
        return {entry["tensor"]: entry for row in self.rows for entry in row["outputs"]}


def blame(rows: Sequence[Row]) -> Blame | None:
    """The node at fault in one call, or None when every node does with true inputs what it should."""
    graph = _Graph(rows, baseline=is_twin(rows))
    usual = _usual(rows)
    ratios = [
        (ratio(row, entry, usual, baseline=graph.baseline), row, entry) for row in rows for entry in row["outputs"]
    ]
    worst = max((value for value, _, _ in ratios), default=0.0)
    if worst <= 1:
        return None
    wrong = [(row, entry) for value, row, entry in ratios if value > 1 and value >= SHARE * worst]
    row, entry = wrong[0]
    makers, entries = graph.makers, graph.entries
    at = _culprit(entry["tensor"], graph, makers, entries)
    chain = list(_segment(entry["tensor"], makers, entries))
    readers = [other["name"] for other in rows if at in other["inputs"]]
    others = [row["name"], *chain[:4], *(other["name"] for other, _ in wrong), *readers[:2]]
    also = tuple(name for name in dict.fromkeys(others) if name != makers[at]["name"])
    return Blame(
        node=makers[at]["name"],
        op_type=makers[at]["op_type"],
        tensor=at,
        makes=tuple(other["tensor"] for other in makers[at]["outputs"]),
        known_as=entry["known_as"],
        local=_shown(entry, baseline=graph.baseline),
        before=_carried(row, entries),
        after=entry.get("whole"),
        also=also[:8],
        precision=_precision(len(chain), entries, direct=at == entry["tensor"]),
    )


def ratio(row: Row, entry: Row, usual: Mapping[str, float], *, baseline: bool) -> float:
    """A tensor's own error over what is to be expected: above 1 its node is wrong. Tensors nobody knows give 0."""
    rounded = row["rounded"]
    if "alone" in entry:
        return _over(entry["alone"], FLOAT32)
    if (rounded or row["float16"]) and baseline and "baseline" in entry:
        return _over(entry["baseline"], EQUAL)
    if not entry["anchored"]:
        return 0.0
    if rounded:
        own = entry["local"]["rms"]
        return float("inf") if own is None else float(own) / (ROUNDED * max(usual.get(_kind(row), 0.0), FLOAT16))
    return _over(entry["local"], FLOAT16 if row["float16"] else FLOAT32)


def is_twin(rows: Sequence[Row]) -> bool:
    """Return whether the built variant beside the candidate is its clean twin: most rounded nodes give the same."""
    compared = [
        e["baseline"] for row in rows for e in row["outputs"] if "baseline" in e and (row["rounded"] or row["float16"])
    ]
    same = [table for table in compared if _over(table, EQUAL) <= 1]
    return len(same) * 2 >= len(compared)


def _over(table: Mapping[str, Any], tolerance: float) -> float:
    relative = table["relative"]
    return float("inf") if relative is None else float(relative) / tolerance


def _usual(rows: Sequence[Row]) -> dict[str, float]:
    """The usual error of rounded nodes: the median over the same node of all layers, or over all where it is alone."""
    kinds: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if row["rounded"]:
            kinds[_kind(row)] += [e["local"]["rms"] for e in row["outputs"] if e["anchored"] and e["local"]["rms"]]
    everything = [value for values in kinds.values() for value in values]
    if not everything:
        return {}
    overall = statistics.median(everything)
    return {kind: statistics.median(v) if len(v) > 2 else 2 * overall for kind, v in kinds.items()}


def _kind(row: Row) -> str:
    return NUMBER.sub("*", row["name"])


def _culprit(tensor: str, graph: _Graph, makers: Mapping[str, Row], entries: Mapping[str, Row]) -> str:
    """Follow inputs of unknown value back from a wrong tensor to the first node whose inputs are all right."""
    for name in makers[tensor]["computed"]:
        entry = entries.get(name)
        if (
            entry is None
            or entry["anchored"]
            or _right(entry, makers[name], makers[tensor], made=entries[tensor], baseline=graph.baseline)
        ):
            continue
        if _carries(entry, makers[tensor], entries[tensor]):
            return _culprit(name, graph, makers, entries)
    return tensor


def _right(entry: Row, maker: Row, reader: Row, *, made: Row, baseline: bool) -> bool:
    """Return whether a tensor is known to be what its reader should read.

    Half of a mask is no mask where values are selected by it. Softmax is to read scores that are masked, and these are
    to be scaled: a product that leaves the query or the scores as they were scales nothing.
    """
    if baseline and "baseline" in entry and _over(entry["baseline"], EQUAL) <= 1:
        return True
    if entry["known_as"] is None:
        return False
    if entry["kind"] == "bool" and made["kind"] != "bool":
        return bool(entry["known_as"] == "allowed")
    if entry["known_as"].endswith(("query by head", "scores unscaled")):
        return maker["op_type"] not in ("Mul", "Div") and reader["op_type"] not in ("Where", "Softmax")
    return bool(reader["op_type"] != "Softmax" or entry["known_as"].endswith("masked"))


def _carries(entry: Row, reader: Row, made: Row) -> bool:
    """Return whether an error of a node's output may come from this input.

    Values are carried: floats, masks, ids and positions; not the sizes that reshapes read, nor a factor or a condition
    that is spread over the values: a node that makes something wrong of those is itself what was added to the graph.
    """
    shape = entry["shape"]
    if entry["kind"] == "int64" and len(shape) != 2:
        return False
    if entry["kind"] == "bool" and len(shape) < (2 if made["kind"] == "bool" else 3):
        return False
    spread = reader["op_type"] in SPREADING and shape[-1:] != made["shape"][-1:]
    return not spread and math.prod(shape) > 1


def _segment(tensor: str, makers: Mapping[str, Row], entries: Mapping[str, Row]) -> Iterator[str]:
    """Nodes between a wrong tensor and the true ones it was made from, nearest first, less those known to be right."""
    waiting, seen = [tensor], {tensor}
    while waiting:
        for name in makers[waiting.pop(0)]["computed"]:
            entry = entries.get(name)
            if entry is None or entry["anchored"] or entry["known_as"] is not None or name in seen:
                continue
            seen.add(name)
            waiting.append(name)
            yield makers[name]["name"]


def _carried(row: Row, entries: Mapping[str, Row]) -> dict[str, Any] | None:
    """The largest error that arrives at a node in the whole run."""
    arriving = [entries[name]["whole"] for name in row["computed"] if "whole" in entries.get(name, {})]
    return max(arriving, key=lambda table: _over(table, 1.0), default=None)


def _shown(entry: Row, *, baseline: bool) -> dict[str, Any]:
    shown = {"from_reference": entry.get("local")}
    if "alone" in entry:
        shown["from_the_row_alone"] = entry["alone"]
    return {**shown, "from_built_variant": entry["baseline"]} if baseline and "baseline" in entry else shown


def _precision(between: int, entries: Mapping[str, Row], *, direct: bool) -> str:
    known = sum(entry["anchored"] for entry in entries.values())
    if not between:
        return "exact: every tensor that the node reads and makes is known"
    what = "found by value" if not direct else "the last of them"
    return f"one of {between + 1} nodes between known tensors, {what} ({known} of {len(entries)} tensors are known)"


def known_tensors(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The whole run layer by layer: each known float tensor with its error, in the graph's order."""
    return [
        {"tensor": entry["tensor"], "known_as": entry["known_as"], **entry["whole"]}
        for row in rows
        for entry in row["outputs"]
        if entry["anchored"] and entry["kind"].startswith("float") and row["op_type"] not in ("Cast", *LOOKUPS)
    ]
