"""Hold what was found about one variant's failure: plain data, and its text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

SCHEMA = 1
PARTS = ("product", "columns", "float16", "float32")  # what graphs make on the way to a module's output
NODE, CONSTANT, RUN, BESIDE, NOTHING = "node", "constant", "run", "beside the graph", "nothing"


@dataclass(frozen=True)
class Explanation:
    """Say why one variant failed.

    `kind` says how it was found: `node` by values, `constant` by a constant that is not the reference's, `run` by
    onnxruntime's own error, `beside the graph` by the check's detail, `nothing`: no node deviates from true inputs.
    """

    variant: str
    level: str
    failed: tuple[str, ...]  # every failed measure, as in the report
    kind: str
    node: str | None = None
    op_type: str | None = None
    tensor: str | None = None
    makes: tuple[str, ...] = ()  # all that the node makes
    known_as: str | None = None  # the reference's name of that tensor, or of the first known one made of it
    what: tuple[str, ...] = ()
    also: tuple[str, ...] = ()  # nodes in the same stretch, and others that deviate
    errors: Mapping[str, Any] | None = None  # before, local, after
    layers: tuple[Mapping[str, Any], ...] = ()  # the whole run, tensor by tensor
    precision: str = ""
    criterion: Mapping[str, Any] | None = None
    input: Mapping[str, Any] | None = None
    text: tuple[str, ...] = ()
    step: int | None = None
    runs: int = 0
    command: str = ""

    def hit(self, name: str) -> str | None:
        """Return how well this names a planted node or value: `exact`, `neighbour`, or None.

        Exact: the node, a value that it makes, or the first known value that it makes wrong. A neighbour holds a tensor
        of the same module (a product without its bias), or stands in the same stretch of nodes between known tensors.
        """
        if self.node is None:
            return None
        if name in {self.node, self.tensor, self.known_as, *self.makes}:
            return "exact"
        others = {entry.rpartition("/")[0] or entry for entry in self.names}
        own = {self.tensor, *others}
        same_module = any(f"{name}.{part}" in own or name == f"{value}.{part}" for part in PARTS for value in own)
        return "neighbour" if name in {*others, *self.names} or same_module else None

    @property
    def names(self) -> tuple[str, ...]:
        """The node and those named beside it."""
        return tuple(name for name in (self.node, *self.also) if name)


def write(explanations: Sequence[Explanation], directory: Path) -> None:
    """Write explain.json and the inputs."""
    table = {"schema": SCHEMA, "explanations": [asdict(entry) for entry in explanations]}
    text = json.dumps(table, indent=1, ensure_ascii=False, allow_nan=False)
    (directory / "explain.json").write_text(text + "\n", encoding="utf-8")
    for entry in explanations:
        if entry.input is not None:
            content = {"criterion": entry.criterion, "input": entry.input}
            (directory / input_name(entry.variant)).write_text(json.dumps(content) + "\n", encoding="utf-8")


def input_name(variant: str) -> str:
    """The file that holds a variant's minimised input."""
    return f"explain-input-{variant}.json"


def lines(entry: Explanation) -> list[str]:
    """The explanation as short lines for people."""
    found = [f"failed: {line}" for line in entry.failed[:3]]
    if len(entry.failed) > 3:
        found.append(f"and {len(entry.failed) - 3} more measures")
    if entry.kind == BESIDE:
        return [
            *found,
            "not in what the graph computes, as far as a probe shows: the check's own detail says what it is",
        ]
    if entry.node is not None:
        found.append(f"node: {entry.node} ({entry.op_type})" + (f", tensor {entry.tensor}" if entry.tensor else ""))
        if entry.known_as and entry.known_as != entry.tensor:
            found.append(f"first known value that it makes wrong: {entry.known_as}")
    else:
        found.append("no node deviates when it is given true inputs")
    found += [f"what: {line}" for line in entry.what[:4]]
    if entry.errors is not None:
        found += [f"error {name}: {_error(table)}" for name, table in entry.errors.items() if table is not None]
    if entry.also:
        found.append(f"also concerned: {', '.join(entry.also)}")
    if entry.precision:
        found.append(f"precision: {entry.precision}")
    return found + _about_input(entry)


def _about_input(entry: Explanation) -> list[str]:
    if entry.input is None or entry.criterion is None:
        return []
    rows, pieces = entry.input["ids"], entry.input["pieces"]
    bound, value = entry.criterion["bound"], entry.criterion["value"]
    measure = f"{entry.criterion['check']}.{entry.criterion['figure']}"
    found = [
        f"smallest failing input: {len(rows)} rows of {len(rows[0])} tokens in pieces {_plan(pieces)} at {entry.level}",
        f"its {measure} is {'not finite' if value is None else f'{value:.4g}'}, allowed {bound:.4g}; {entry.runs} runs",
    ]
    found += [f"row {i}: {text!r:.160}" for i, text in enumerate(entry.text[:4])]
    if entry.step is not None and len(pieces) > 1:
        found.append(f"the node deviates first in call {entry.step + 1} of {len(pieces)}")
    return [*found, f"reproduce: {entry.command}"] if entry.command else found


def _plan(pieces: Sequence[int]) -> str:
    return f"{list(pieces)}" if len(pieces) <= 8 else f"{list(pieces[:7])} ... ({len(pieces)})"


def _error(table: Mapping[str, Any]) -> str:
    if "largest" not in table:
        return "; ".join(f"{name.replace('_', ' ')} {_error(entry)}" for name, entry in table.items() if entry)
    if table["largest"] is None:
        return "not finite, or of another shape"
    share = "" if table["relative"] is None else f", {table['relative']:.2g} of the largest true value"
    return f"{table['largest']:.4g}{share if table['scale'] else ''}"
