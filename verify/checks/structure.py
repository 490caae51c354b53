"""structure: is the file a valid ONNX model that keeps the loaders' contract and stores every weight once?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from model import contract
from model.contract import Dimensions
from pipeline.variants import read_with
from verify.candidate import operators, ports, topology
from verify.candidate.embedding import Tables
from verify.candidate.session import Candidate
from verify.candidate.untrusted import external, parsing
from verify.check import Case, Explaining, Measure, Partial, Prompting

if TYPE_CHECKING:  # torch takes seconds to load
    from verify.reference.model import Reference

NEEDS: tuple[str, ...] = ()
PER_LEVEL = False
TOLERATED = {"bytes_per_parameter": "max"}
JUDGES = "graph"
PROMPTING: Prompting | None = None
SEEDED = False
BRIEF: Mapping[str, Any] = {}
EXPLAINING: Explaining | None = None
# What the loaders' contract allows; figures of this check without a tolerance in the recipe count violations.
RULES = {
    "checker": "onnx's full checker accepts the model",
    "wiring": "every value is made once, before it is read, from values that exist",
    "operators": "every operator exists in its domain at the opset that the model imports",
    "contract": "names, types and axes of inputs and outputs are the loaders'",
    "versions": "opset, IR version and operator domains are ones that released runtimes load",
    "external_data": "weights outside the file lie in FILE_data, where loaders look, or in the variant's own file",
    "finite": "no weight is NaN or infinite",
    "embedding": "lookup and head share one table (each has its own if the source's head is not tied)",
    "logits_on_demand": "the optional input that asks for the last logits only is offered",
}


# Of these, what a file may break that loads and computes as it must: with contract = "usable" they are shown only. What
# is wired so wrongly that no runtime loads it fails the checks that run it.
MANNERS = ("checker", "wiring", "operators", "versions", "external_data", "embedding", "logits_on_demand")


@dataclass(frozen=True)
class Settings:
    """State which contract a graph must keep: "strict", or "usable", for those that other programs have made.

    `logits_on_demand` says whether a graph must offer them.
    """

    contract: Literal["strict", "usable"] = ports.STRICT
    logits_on_demand: bool = True

    def check(self, where: str, context: int) -> None:
        """Nothing to refuse."""


def cases(reference: Reference, corpus: Any, settings: Settings) -> Iterator[Case]:
    """One case, which states the model's dimensions."""
    yield Case("structure", facts={"dimensions": asdict(reference.dimensions), **asdict(settings)})


def judge(candidate: Candidate, case: Case) -> Partial:
    """Violations of each rule, as texts, and the file's size."""
    import onnx

    dims = Dimensions(**case.facts["dimensions"])
    violations: dict[str, list[str]] = {rule: [] for rule in RULES}
    model = onnx.load(candidate.path, load_external_data=False)
    try:
        onnx.checker.check_model(str(candidate.path), full_check=True)
    except UnicodeDecodeError:  # of its own message, which quotes the model
        violations["checker"].append("names that are not UTF-8")
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, RuntimeError) as error:
        violations["checker"].append((str(error).strip() or type(error).__name__).splitlines()[0])
    violations["wiring"] = topology.faults(model.graph)
    violations["operators"] = operators.unknown(model)
    violations["contract"] = ports.violations(model.graph, dims, case.facts["contract"])
    violations["versions"] = _versions(model)
    tensors = list(parsing.tensors(model))
    home, data = candidate.path.parent, external.files(model, candidate.path.parent)
    strange = [path for path in data if path not in read_with(candidate.path)]
    violations["external_data"] = [f"weights lie in {path.relative_to(home)}" for path in strange]
    violations["finite"] = [f"{name} holds NaN or infinity" for name, tensor in tensors if not _finite(tensor, home)]
    if violations["wiring"]:  # what is joined wrongly cannot be followed
        violations["embedding"] = ["not looked for, because of the wiring"]
    else:
        violations["embedding"] = _embedding(model.graph, dims)
    if case.facts["logits_on_demand"]:
        violations["logits_on_demand"] = _logits_on_demand(model.graph)
    return {
        "violations": violations,
        "shown": MANNERS if case.facts["contract"] == ports.USABLE else (),
        "bytes": sum(path.stat().st_size for path in (candidate.path, *data)),
        "parameters": dims.parameters,
        "tensors": len(model.graph.initializer),
    }


def summarize(partials: list[Partial], observed: Any, reference: Reference) -> list[Measure]:
    """One count of violations per rule, and bytes per parameter."""
    (partial,) = partials
    measures = [
        Measure(
            rule,
            len(found),
            max(partial["tensors"], 1),
            fixed=None if rule in partial["shown"] else 0,
            judged=rule not in partial["shown"],
            detail="; ".join(found[:3]),
        )
        for rule, found in partial["violations"].items()
    ]
    ratio = partial["bytes"] / partial["parameters"]
    return [*measures, Measure("bytes_per_parameter", ratio, 1, unit="B", detail=f"{partial['bytes']} bytes")]


def _versions(model: Any) -> list[str]:
    problems = []
    used = {node.domain for node in operators.nodes(model.graph)}
    if not 1 <= model.ir_version <= contract.MAX_IR_VERSION:
        problems.append(f"IR version {model.ir_version}; supported: 1 to {contract.MAX_IR_VERSION}")
    for entry in model.opset_import:
        if entry.domain not in operators.DOMAINS:
            supported = ", ".join(repr(domain) for domain in sorted(operators.DOMAINS))
            spare = "" if entry.domain in used else " (no operator is of it: take the import out)"
            problems.append(f"operator domain {parsing.shown(entry.domain)!r}; supported: {supported}{spare}")
        elif entry.domain in ("", "ai.onnx") and not 1 <= entry.version <= contract.MAX_OPSET:
            problems.append(f"opset {entry.version}; supported: 1 to {contract.MAX_OPSET}")
    return problems


def _finite(tensor: Any, directory: Path) -> bool:
    """Return whether a tensor's numbers are finite, wherever they are stored."""
    from onnx import numpy_helper

    array = numpy_helper.to_array(tensor, str(directory))
    if array.dtype.kind in "iubSOU":
        return True
    wide = array if array.dtype.kind in "fc" else array.astype(np.float32)
    # A single infinity is how other exporters write the score of a masked position; a weight has more elements.
    return bool(np.isfinite(wide).all() or (array.size == 1 and not np.isnan(wide).any()))


def _embedding(graph: Any, dims: Dimensions) -> list[str]:
    """The head must multiply with what the lookup reads, or with a table of its own if it is not tied."""
    tables = Tables(graph, dims)
    for part, names in (("lookup of input_ids", tables.embedding), ("product behind logits", tables.head)):
        if not names:
            return [f"no table found behind the {part}"]
    if (tables.embedding == tables.head) is dims.tied:
        return []
    listed = ", ".join(sorted(tables.embedding | tables.head))
    return [f"stored {'apart' if dims.tied else 'once'}, although tied = {str(dims.tied).lower()}: {listed}"]


def _logits_on_demand(graph: Any) -> list[str]:
    initialized = {tensor.name for tensor in graph.initializer}
    found = {port.name: port for port in map(ports.read, graph.input) if port.name in initialized}
    return [
        f"optional input {port.name} is {'another' if port.name in found else 'missing'}"
        for port in contract.optional_inputs()
        if found.get(port.name) != port
    ]
