"""CTranslate2's Generator."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np

from benchmarks.engine import Array, Runner
from pipeline.canonical import read_json


def load(path: Path, name: str, threads: int) -> Runner:
    """The model in a Generator with one worker of `threads` OpenMP threads."""
    generator = ctranslate2.Generator(str(path), compute_type=name, inter_threads=1, intra_threads=threads)
    return CTranslate2Runner(generator, read_json(path / "vocabulary.json"))


class CTranslate2Runner:
    """A Generator, which is asked for tokens as text and gives them back one by one."""

    def __init__(self, generator: Any, vocabulary: list[str]) -> None:
        self._generator = generator
        self._vocabulary = vocabulary

    def prefill(self, ids: Array, *, every: bool) -> float:
        """Every position's logits by `forward_batch`; the next token only by generating one.

        Both include what the call does with its inputs; generation includes its argmax.
        """
        if every:
            rows = ids.tolist()
            begin = time.perf_counter()
            self._generator.forward_batch(rows)
            return time.perf_counter() - begin
        rows = [self._text(row) for row in ids]
        begin = time.perf_counter()
        self._generate(rows, 1)
        return time.perf_counter() - begin

    def decode(self, prompt: Array, batch: int, steps: int) -> float:
        """From the first new token of the last row to its last one, as the callback sees them: no part of the prompt.

        The loop is the library's own, in C++; the callback costs microseconds.
        """
        times: list[float] = []

        def note(result: Any) -> bool:
            if result.batch_id == batch - 1:
                times.append(time.perf_counter())
            return False

        self._generate([self._text(prompt)] * batch, steps + 1, callback=note)
        if len(times) != steps + 1:
            raise RuntimeError(f"{len(times)} tokens instead of {steps + 1}")
        return times[-1] - times[0]

    def logits(self, ids: Array) -> Array:
        """Logits float32 [length, vocabulary] of int64 ids [length]."""
        found: Array = np.array(self._generator.forward_batch([ids.tolist()]), dtype=np.float32)[0]
        return found

    def rest(self) -> None:
        """Nothing: the library's allocator keeps what it needs."""

    def _text(self, ids: Array) -> list[str]:
        return [self._vocabulary[token] for token in ids.tolist()]

    def _generate(self, rows: list[list[str]], count: int, **options: Any) -> None:
        # The end token is held back (min_length), so that every row runs to the end; the prompt goes through the model
        # at once, because it is not asked for in the result.
        self._generator.generate_batch(
            rows, min_length=count, max_length=count, include_prompt_in_result=False, sampling_topk=1, **options
        )
