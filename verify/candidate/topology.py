"""Check how a graph's nodes are joined: no value that nothing makes, that is made twice, or that waits for itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from graphlib import CycleError, TopologicalSorter
from typing import Any

from verify.candidate.untrusted.parsing import shown


def faults(graph: Any, outer: AbstractSet[str] = frozenset()) -> list[str]:
    """Faults of a graph and of the graphs inside its nodes; `outer` are the values that it may read from outside."""
    given = [port.name for port in graph.input]
    stored = [tensor.name for tensor in graph.initializer] + [one.values.name for one in graph.sparse_initializer]
    made = [name for node in graph.node for name in node.output if name]
    problems = [f"input {shown(name)} is declared twice" for name in _twice(given)]
    problems += [f"output {shown(name)} is declared twice" for name in _twice([port.name for port in graph.output])]
    problems += [f"initializer {shown(name)} is stored twice" for name in _twice(stored)]
    problems += [f"value {shown(name)} is made twice" for name in _twice(made)]
    problems += [f"value {shown(name)} is made, and given as well" for name in sorted({*made} & {*given, *stored})]
    there = {*outer, *given, *stored}
    cycle = _cycle(graph)
    if cycle:
        problems.append(f"cycle: {' <- '.join(map(shown, cycle[:10]))}")
    everything = there | {*made}
    for node in graph.node:
        for name in node.input:
            if name and name not in everything:
                problems.append(f"{_named(node)} reads {shown(name)}, which is undefined")
            elif name and name not in there and not cycle:
                problems.append(f"{_named(node)} reads {shown(name)} before it is made")
        for inner in inner_graphs(node):
            problems += faults(inner, there)
        there.update(node.output)
    problems += [f"output {shown(port.name)} is undefined" for port in graph.output if port.name not in everything]
    return problems


def inner_graphs(node: Any) -> Iterator[Any]:
    """Graphs in a node's attributes: bodies of loops, branches."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _cycle(graph: Any) -> list[str]:
    """Values of which each is made from the next, the first again at the end; empty if there are none."""
    sorter: TopologicalSorter[str] = TopologicalSorter()
    for node in graph.node:
        for name in filter(None, node.output):
            sorter.add(name, *filter(None, node.input))
    try:
        sorter.prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))
    return []


def _twice(names: list[str]) -> list[str]:
    return sorted(name for name, times in Counter(names).items() if times > 1)


def _named(node: Any) -> str:
    return f"node {shown(node.name or node.op_type)}"
