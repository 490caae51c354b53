"""Find which operators a graph uses, and whether the runtime that judges it knows them at the model's opsets."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from model import contract
from verify.candidate.topology import inner_graphs
from verify.candidate.untrusted.parsing import shown

DOMAINS = {"", "ai.onnx", "com.microsoft"}


def unknown(model: Any) -> list[str]:
    """Operators that do not exist in their domain, or only at a later opset, or whose domain is not imported."""
    imported = {_plain(entry.domain): entry.version for entry in model.opset_import}
    known = _known()
    problems = set()
    for node in nodes(model.graph):
        domain, op = _plain(node.domain), shown(node.op_type)
        since = known.get((domain, node.op_type))
        if node.domain not in DOMAINS:
            continue  # named among the versions
        if domain not in imported:
            problems.add(f"operator {op}: domain {domain or 'ai.onnx'!r} is not imported")
        elif since is None:
            limits = f"ai.onnx up to opset {contract.MAX_OPSET}, com.microsoft"
            problems.add(f"operator {op} does not exist in domain {domain or 'ai.onnx'!r}; supported: {limits}")
        elif since > imported[domain]:
            problems.add(f"operator {op} exists from opset {since}; the model imports {imported[domain]}")
    return sorted(problems)


def nodes(graph: Any) -> Iterator[Any]:
    """The nodes of a graph and of the graphs inside them."""
    for node in graph.node:
        yield node
        for inner in inner_graphs(node):
            yield from nodes(inner)


def _plain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


@cache
def _known() -> dict[tuple[str, str], int]:
    """The first version of every operator that the installed onnxruntime has, by domain and name."""
    from onnxruntime.capi.onnxruntime_pybind11_state import get_all_operator_schema

    first: dict[tuple[str, str], int] = {}
    for schema in get_all_operator_schema():
        key = (schema.domain, schema.name)
        first[key] = min(schema.since_version, first.get(key, schema.since_version))
    return first
