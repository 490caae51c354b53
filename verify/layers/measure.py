"""Measure the modules of every candidate on one short text, each in a process with the recipe's bounds."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from verify.candidate.input import Input
from verify.check import NotApplicable
from verify.explain import truth
from verify.layers.modules import NOT_FINITE
from verify.run_checks import AT_A_TIME, Examination, Target
from verify.sandbox.pool import Pool
from verify.sandbox.spawned import LATE
from verify.sandbox.worker import CandidateError, Worker
from verify.verdict import Result

CHECK = "layers"  # what a result that fails is called
PROBE = "verify.layers.probe"
LEVEL = "disable_all"  # optimized, a graph has lost the values to compare
TOKENS = 32  # of the text: some hundred numbers for each of a module's values


def measure(
    examination: Examination, targets: Sequence[Target], results: Sequence[Result], home: Path
) -> dict[str, Any]:
    """Return how many `tokens` were fed, and for each of `variants` the rows of its modules, or why there are none.

    Variants that timed out in a check (`results`) are skipped. Files lie below `home` for a while.
    """
    reference, corpus = examination.reference, examination.corpus
    length = min(TOKENS, len(corpus.ids), reference.context)
    ids = corpus.piece(length, 0)[None]
    late = {result.variant for result in results if LATE in (result.failure or "")}
    with tempfile.TemporaryDirectory(dir=home) as scratch:
        parameters, saved = Path(scratch) / "parameters", Path(scratch) / "call"
        try:
            truth.save_parameters(reference, parameters)
            call = next(truth.calls(reference, Input(ids, np.ones_like(ids), (length,))))
        except NotApplicable as error:
            return {"tokens": length, "variants": [_absent(target, str(error)) for target in targets]}
        replace(call, facts={**call.facts, "parameters": str(parameters)}).save(saved)

        def one(worker: Worker, target: Target) -> dict[str, Any]:
            if target.variant in late:
                return _absent(target, "an earlier check had no answer in time")
            worker.aim(target.path, LEVEL, cached=target.cached)
            try:
                return {"variant": target.variant, "reason": None, **worker.judge(PROBE, saved)}
            except CandidateError as error:
                return _absent(target, str(error))

        most = min(AT_A_TIME, len(targets))
        with Pool(examination.recipe.verify, most=most, emulator=examination.emulator) as pool:
            return {"tokens": length, "variants": list(pool.map(one, targets))}


def not_finite(found: Mapping[str, Any]) -> list[Result]:
    """Return a failed result of each variant in which a module makes numbers that are none: all that is judged here."""
    wrong = {
        entry["variant"]: [
            row["name"] for row in entry["modules"] if row["error"] is None and row["reason"] == NOT_FINITE
        ]
        for entry in found["variants"]
    }
    return [
        Result(variant, CHECK, LEVEL, (), failure=f"{', '.join(names)}: {NOT_FINITE}")
        for variant, names in wrong.items()
        if names
    ]


def _absent(target: Target, reason: str) -> dict[str, Any]:
    return {"variant": target.variant, "reason": reason, "modules": []}
