"""onnxruntime-genai's Generator, which keeps the cache and chooses the tokens itself."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime_genai

from benchmarks.engine import Array, Runner


def load(path: Path, name: str, threads: int) -> Runner:  # noqa: ARG001  # every engine's `load` has one signature
    """The model of a directory, its session on so many threads."""
    config = onnxruntime_genai.Config(str(path))
    options = {"session_options": {"intra_op_num_threads": threads}}
    config.overlay(json.dumps({"model": {"decoder": options}}))
    return GenaiRunner(onnxruntime_genai.Model(config))


class GenaiRunner:
    """A model; each task has a generator of its own, as each request of a user has."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def prefill(self, ids: Array, *, every: bool) -> float:
        """`append_tokens` and the logits in memory: its graphs compute every position's, asked for or not."""
        generator = self._generator(len(ids), ids.shape[1] + 1)
        begin = time.perf_counter()
        generator.append_tokens(ids.astype(np.int32))
        np.asarray(generator.get_output("logits") if every else generator.get_logits())
        return time.perf_counter() - begin

    def decode(self, prompt: Array, batch: int, steps: int) -> float:
        """`generate_next_token`, which runs the token chosen before it and chooses the next.

        The first one only chooses: the prompt's pass has made its logits. It is not timed.
        """
        generator = self._generator(batch, len(prompt) + steps + 1)
        generator.append_tokens(np.repeat(prompt[None], batch, axis=0).astype(np.int32))
        generator.generate_next_token()
        begin = time.perf_counter()
        for _ in range(steps):
            generator.generate_next_token()
        return time.perf_counter() - begin

    def logits(self, ids: Array) -> Array:
        """Logits float32 [length, vocabulary] of int64 ids [length]."""
        generator = self._generator(1, len(ids) + 1)
        generator.append_tokens(ids[None].astype(np.int32))
        found: Array = np.array(generator.get_output("logits"), np.float32)[0]
        return found

    def rest(self) -> None:
        """Nothing: a generator's memory goes with it."""

    def _generator(self, rows: int, longest: int) -> Any:
        # The end token is held back (min_length), so that every row runs to the end.
        options = {"do_sample": False, "batch_size": rows, "max_length": longest, "min_length": longest}
        parameters = onnxruntime_genai.GeneratorParams(self._model)
        parameters.set_search_options(**options)
        return onnxruntime_genai.Generator(self._model, parameters)
