"""Explain a failure: minimise its input, then find the node that deviates although its inputs are true.

`explain` is for a failure whose input is known, `explain_variant` for a variant's results as `verify` has them. Only
`verify.explain.probe` and the checks touch the foreign file, in a process of its own with bounds on time and memory.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from verify.explain.explanation import BESIDE, CONSTANT, NODE, NOTHING, RUN, Explanation
from verify.explain.failure import BESIDE as CHECKS_BESIDE
from verify.explain.failure import Context, Failure, Trial, failures
from verify.explain.findings import Bounds, Findings, Place, probe, probes
from verify.explain.input import Input
from verify.explain.minimise import minimise
from verify.verdict import Result
from verify.worker import Worker

__all__ = ["Bounds", "Context", "Place", "conclude", "explain", "explain_variant"]
STOPPED = re.compile(r"running (\w+) node\. Name:'([^']*)'")  # how onnxruntime names the node that raised


def explain_variant(context: Context, place: Place, results: Sequence[Result], said: Sequence[str]) -> Explanation:
    """Explain one variant's results; `said` are its failures as the report words them.

    A variant that fails only beside its computation (tokenizer, config, structure) is explained by the check itself;
    of a structure that fails, constants that are not the reference's are named all the same.
    """
    variant = results[0].variant
    failed_checks = {result.check for result in results if not result.passed}
    plain = Explanation(variant, "any", tuple(said), BESIDE)
    if failed_checks <= {*CHECKS_BESIDE}:
        return _by_constants(context, place, plain) if "structure" in failed_checks else plain
    with contextlib.ExitStack() as stack:
        trials = {
            level: Trial(context.reference, stack.enter_context(_worker(place, level)), place.scratch)
            for level in context.recipe.verify.levels
        }
        with _progress(f"{variant}: failing input") as progress:
            found = next(
                (each for each in failures(context, results) if _fails(trials[each.level], each, progress)), None
            )
        if found is not None:
            return _smallest(trials[found.level], place, found, said)
    why = ("no single case of the failed checks fails when it is run again",)
    return Explanation(variant, "any", tuple(said), NOTHING, what=why)


def _fails(trial: Trial, failure: Failure, progress: Any) -> bool:
    progress.update()
    return trial.fails(failure, failure.input)


def explain(reference: Any, place: Place, failure: Failure, said: Sequence[str] = ()) -> Explanation:
    """Minimise the failure's input and locate its node."""
    with _worker(place, failure.level) as worker:
        return _smallest(Trial(reference, worker, place.scratch), place, failure, said)


def _smallest(trial: Trial, place: Place, failure: Failure, said: Sequence[str]) -> Explanation:
    with _progress(f"{failure.variant}: smallest input") as progress:
        smallest, runs = minimise(failure.input, lambda given: _fails(trial, failure.on(given), progress))
    failure = failure.on(smallest)
    return conclude(trial, place, failure, trial.value(failure, smallest), said=said, runs=runs)


def conclude(  # noqa: PLR0913  # the last two are for the text alone
    trial: Trial, place: Place, failure: Failure, value: float, *, said: Sequence[str], runs: int
) -> Explanation:
    """Locate the node for an input as it is; `value` is the measure on it."""
    given = failure.input
    found = probe(trial, place, failure)
    criterion = {
        "variant": failure.variant,
        "check": failure.check,
        "figure": failure.figure,
        "level": failure.level,
        "bound": failure.bound,
        "upper": failure.upper,
        "case": failure.case,
        "value": value if math.isfinite(value) else None,
        "observed": dict(failure.observed),
    }
    texts = (trial.reference.tokenizer.decode(row[mask == 1]) for row, mask in zip(given.ids, given.mask, strict=True))
    shared = {
        "criterion": criterion,
        "input": given.table(),
        "text": tuple(texts),
        "runs": runs,
        "layers": tuple(found.layers),
        "step": found.step,
    }
    return _explanation(failure, found, tuple(said), shared)


def _explanation(failure: Failure, found: Findings, said: tuple[str, ...], shared: dict[str, Any]) -> Explanation:
    start = (failure.variant, failure.level, said)
    if found.blame is not None:
        blamed = found.blame
        names = (blamed.node, *blamed.also)
        what = [f"{entry['what']}" for entry in found.constants if entry["node"] == blamed.node]
        what += [
            f"{entry['node']}: {entry['what']}"
            for name in names[1:]
            for entry in found.constants
            if entry["node"] == name
        ]
        note = "" if found.twin else "; the built variant is another file altogether, so it is no yardstick"
        if found.mode == "optimized":
            note += (
                f"; in the graph as onnxruntime's optimizer leaves it at {failure.level}: before it each node is right"
            )
        errors = {"carried in": blamed.before, "of its own": blamed.local, "after it": blamed.after}
        named = {name: getattr(blamed, name) for name in ("node", "op_type", "tensor", "makes", "known_as", "also")}
        shared |= {"errors": errors, "precision": blamed.precision + note, "what": tuple(what)}
        return Explanation(*start, NODE, **named, **shared)
    if found.stopped is not None:
        named = STOPPED.search(found.stopped)
        op_type, node = named.groups() if named else (None, None)
        plain = Explanation(*start, RUN, node, op_type, what=(found.stopped,), **shared)
        return plain if named or not found.constants else _first_constant(plain, found.constants)
    if found.constants:
        return _first_constant(Explanation(*start, NOTHING, **shared), found.constants)
    return Explanation(*start, NOTHING, what=("each node, run from true inputs, gives what it should",), **shared)


def _by_constants(context: Context, place: Place, plain: Explanation) -> Explanation:
    """A structure that fails: name a constant that is not the reference's, if there is one."""
    ids = context.corpus.ids[None, :1]
    given = Input(ids, np.ones_like(ids), (1,))
    failure = Failure(plain.variant, "logits", "disable_all", None, 0.0, upper=True, input=given, case="constants")
    with _worker(place, failure.level) as worker:
        for _, table in probes(Trial(context.reference, worker, place.scratch), place, failure):
            if table.get("constants"):
                return _first_constant(plain, table["constants"])
    return plain


def _first_constant(plain: Explanation, constants: Sequence[Mapping[str, str]]) -> Explanation:
    node = constants[0]["node"]
    what = tuple(entry["what"] for entry in constants if entry["node"] == node)
    others = tuple(dict.fromkeys(entry["node"] for entry in constants if entry["node"] != node))
    table = {name: getattr(plain, name) for name in plain.__dataclass_fields__}
    return Explanation(**{**table, "kind": CONSTANT, "node": node, "what": (*plain.what, *what), "also": others[:8]})


def _worker(place: Place, level: str) -> Worker:
    return Worker(place.candidate, level, timeout_s=place.bounds.timeout_s, memory_gb=place.bounds.memory_gb)


def _progress(what: str) -> Any:
    return tqdm(unit=" runs", dynamic_ncols=True, desc=f"explain {what}", mininterval=1)
