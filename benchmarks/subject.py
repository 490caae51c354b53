"""One engine configuration, as it lives in a process of its own: loaded, timed, weighed and judged there."""

from __future__ import annotations

import importlib
import time
from pathlib import Path

import numpy as np

from benchmarks.engine import Array, Runner
from benchmarks.scenario import Scenario
from model.divergence import diverge
from verify.check import Case, Partial


class MeasuredEngine:
    """Imports the session's library when it is made, so that `load` times the loading of the model alone."""

    def __init__(self, session: str, name: str, path: Path, threads: int) -> None:
        self._session = importlib.import_module(session)
        self._arguments = (path, name, threads)
        self._runner: Runner | None = None

    def ready(self) -> None:
        """Nothing: an answer says that the libraries are imported."""

    def load(self) -> float:
        """Load the model; seconds, with its files in the page cache."""
        begin = time.perf_counter()
        self._runner = self._session.load(*self._arguments)
        return time.perf_counter() - begin

    def measure(self, scenario: Scenario, text: Array) -> float:
        """Seconds of one scenario on int64 tokens [at least scenario.length].

        A prefill is run once more before, untimed: the other engines' turns have emptied the caches, and memory that
        was given back must be had again. A decoding has its prompt's pass for that.
        """
        prompt = text[: scenario.length]
        if scenario.kind == "decode":
            seconds = self.runner.decode(prompt, scenario.batch, scenario.steps)
        else:
            ids = np.repeat(prompt[None], scenario.batch, axis=0)
            self.runner.prefill(ids, every=scenario.every)
            seconds = sum(self.runner.prefill(ids, every=scenario.every) for _ in range(scenario.repeats))
        if scenario.batch > 1:
            self.runner.rest()
        return seconds

    def peak(self) -> int:
        """Most memory that this process has had resident so far, in bytes; mapped files that it read are included."""
        fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return int(fields["VmHWM"].split()[0]) * 1024

    def judge(self, directory: Path) -> Partial:
        """Per scored token of a saved case: KL divergence from the reference in nats, and whether the top agrees."""
        case = Case.load(directory)
        ids, half = np.array(case.arrays["ids"][0]), case.facts["half"]
        found = self.runner.logits(ids)[half:-1]
        truth = np.asarray(case.arrays["truth"])
        result = diverge(case.arrays["logits"], case.arrays["probability"], truth, found, ids[half + 1 :])
        return {"kld": result.kld, "same": result.same_top}

    @property
    def runner(self) -> Runner:
        """The loaded engine; RuntimeError before `load`."""
        if self._runner is None:
            raise RuntimeError("not loaded")
        return self._runner
