"""Explain a failure: minimise its input, then find the node that deviates although its inputs are true.

`explain` is for a failure whose input is known, `explain_variant` for a variant's results as `verify` has them. Only
`verify.explain.probe` and the checks touch the foreign file, in a process of its own with bounds on time and memory.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from pipeline import plugins
from verify.candidate.input import Input
from verify.check import load
from verify.explain.explanation import BESIDE, CONSTANT, NODE, NOTHING, RUN, Explanation
from verify.explain.failure import Failure, Trial, failures, traceable
from verify.explain.findings import Findings, Folders, Limits, probe
from verify.explain.minimise import minimise
from verify.run_checks import Examination
from verify.sandbox.spawned import LATE
from verify.sandbox.worker import Worker
from verify.verdict import Result

if TYPE_CHECKING:  # torch takes seconds to load
    from verify.reference.model import Reference

__all__ = ["Folders", "Limits", "conclude", "explain", "explain_variant"]
TEXT = 12  # tokens looked at where no input is known to fail
# How onnxruntime names a node that raised, and one that it cannot load.
STOPPED = re.compile(
    r"running (?P<op_type>\w+) node\. Name:'(?P<node>[^']*)'|Node \((?P<at>[^)]*)\) Op \((?P<op>\w+)\)"
)


def explain_variant(
    examination: Examination, place: Folders, results: Sequence[Result], said: Sequence[str]
) -> Explanation:
    """Explain one variant's results; `said` are its failures as the report words them.

    Of what fails beside the computation (tokenizer, config, structure) the check's own detail is the explanation. If
    more than files has failed, the graph is probed on a piece of the text all the same: a constant may be wrong unseen.
    """
    variant = results[0].variant
    plain = Explanation(variant, "any", tuple(said), BESIDE)
    hung = next((result.failure for result in results if LATE in (result.failure or "")), None)
    if hung is not None:  # every further run would take as long
        return replace(plain, kind=RUN, what=(hung,))
    if all(result.passed or load(result.check).JUDGES == "files" for result in results):
        return plain
    with contextlib.ExitStack() as stack:
        trials = {
            level: Trial(examination.reference, stack.enter_context(_worker(place, level)), place.scratch)
            for level in examination.recipe.verify.levels
        }
        with _progress(f"{variant}: failing input") as progress:
            found = next(
                (each for each in failures(examination, results) if _fails(trials[each.level], each, progress)), None
            )
        if found is not None:
            return _smallest(trials[found.level], place, found, said)
        return _on_any_text(examination, trials[examination.recipe.verify.levels[0]], place, plain)


def _fails(trial: Trial, failure: Failure, progress: Any) -> bool:
    progress.update()
    return trial.fails(failure, failure.input)


def explain(reference: Reference, place: Folders, failure: Failure, said: Sequence[str] = ()) -> Explanation:
    """Minimise the failure's input and locate its node."""
    with _worker(place, failure.level) as worker:
        return _smallest(Trial(reference, worker, place.scratch), place, failure, said)


def _smallest(trial: Trial, place: Folders, failure: Failure, said: Sequence[str]) -> Explanation:
    with _progress(f"{failure.variant}: smallest input") as progress:
        smallest, runs = minimise(failure.input, lambda given: _fails(trial, failure.on(given), progress))
    failure = failure.on(smallest)
    return conclude(trial, place, failure, trial.value(failure, smallest), said=said, runs=runs)


def conclude(  # noqa: PLR0913  # the last two are for the text alone
    trial: Trial, place: Folders, failure: Failure, value: float, *, said: Sequence[str], runs: int
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
    plain = Explanation(failure.variant, failure.level, said, NOTHING, **shared)
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
        named = {name: getattr(blamed, name) for name in ("node", "op_type", "tensor", "makes", "known_as")}
        # A constant that is wrong for one reader is wrong for all.
        sharing = [
            entry["node"] for entry in found.constants if entry["what"] in what and "initializer" in entry["what"]
        ]
        named["also"] = tuple(dict.fromkeys(n for n in (*names[1:], *sharing) if n != blamed.node))[:8]
        return replace(plain, kind=NODE, errors=errors, precision=blamed.precision + note, what=tuple(what), **named)
    if found.stopped is not None:
        plain = replace(plain, kind=RUN, what=(found.stopped,))
        at = STOPPED.search(found.stopped)
        if at is not None:
            return replace(plain, node=at["node"] or at["at"], op_type=at["op_type"] or at["op"])
        return _first_constant(plain, found.constants) if found.constants else plain
    if found.constants:
        return _first_constant(plain, found.constants)
    return replace(plain, what=("each node, run from true inputs, gives what it should",))


def _on_any_text(examination: Examination, trial: Trial, place: Folders, plain: Explanation) -> Explanation:
    """Explain what fails on no input of its own by a node on a padded batch in two calls, which no check has failed."""
    batch = examination.corpus.batch((TEXT, TEXT // 2), 0, examination.reference.end or 0)
    given = Input(batch.ids, batch.mask, (TEXT - 2, 2))
    check = next(name for name in plugins.names("verify/checks") if traceable(name))
    failure = Failure(plain.variant, check, trial.worker.level, None, 0.0, upper=True, input=given, case="any text")
    found = _explanation(failure, probe(trial, place, failure), plain.failed, {})
    if found.kind in (NODE, CONSTANT):
        note = "found on a text that no check has failed on"
        return replace(found, precision=f"{found.precision}; {note}" if found.precision else note)
    return plain


def _first_constant(plain: Explanation, constants: Sequence[Mapping[str, Any]]) -> Explanation:
    node, op_type, makes = (constants[0][name] for name in ("node", "op_type", "makes"))
    what = tuple(entry["what"] for entry in constants if entry["node"] == node)
    others = tuple(dict.fromkeys(entry["node"] for entry in constants if entry["node"] != node))
    named = {"node": node, "op_type": op_type, "makes": tuple(makes), "also": others[:8]}
    return replace(plain, kind=CONSTANT, what=(*plain.what, *what), **named)


def _worker(place: Folders, level: str) -> Worker:
    return Worker(place.candidate, level, timeout_s=place.bounds.timeout_s, memory_gb=place.bounds.memory_gb)


def _progress(what: str) -> Any:
    return tqdm(unit=" runs", dynamic_ncols=True, desc=f"explain {what}", mininterval=1, leave=None)
