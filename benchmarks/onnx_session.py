"""An ONNX file in plain ONNX Runtime: what `ours` and `stock` are run by, alike."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnxruntime import OrtValue

from benchmarks.engine import Array, Runner
from model.contract import CACHE_IN, CACHE_OUT, LOGITS_TO_KEEP
from model.session import open_session, options, run_into, stays_in_place

SHRINK = "memory.enable_memory_arena_shrinkage"

Cache = dict[str, Any]  # OrtValue by cache input: float [batch, heads, past, head_dim]


def load(path: Path, name: str, threads: int) -> Runner:  # noqa: ARG001  # every session's `load` has one signature
    """The graph in a session; one whose cache may stay in place is run so."""
    session = open_session(path, options(threads=threads))
    return InPlaceRunner(session) if stays_in_place(session) else OnnxRunner(session)


class OnnxRunner:
    """One session with onnxruntime's defaults, but for the number of threads.

    Caches stay inside onnxruntime: the OrtValues of one call are the next call's inputs, without copies.
    """

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session
        self._inputs = {port.name: port for port in self._session.get_inputs()}
        self._outputs = [port.name for port in self._session.get_outputs()]
        optional = {port.name for port in self._session.get_overridable_initializers()}
        self._keep_one = {LOGITS_TO_KEEP: _value(np.array(1, np.int64))} if LOGITS_TO_KEEP in optional else {}

    def prefill(self, ids: Array, *, every: bool) -> float:
        """Includes making the inputs; the last position's logits only, where the graph offers that."""
        cache = self._empty(len(ids), ids.shape[1])
        begin = time.perf_counter()
        self._run(ids, 0, cache, every=every)
        return time.perf_counter() - begin

    def decode(self, prompt: Array, batch: int, steps: int) -> float:
        """Includes making each step's inputs and numpy's argmax."""
        past = len(prompt)
        logits, cache = self._run(prompt[None], 0, self._empty(1, past + steps), every=False)
        tokens = np.repeat(_choose(logits), batch, axis=0)
        if batch > 1:
            cache = {name: _value(np.repeat(value.numpy(), batch, axis=0)) for name, value in cache.items()}
        begin = time.perf_counter()
        for length in range(past, past + steps):
            logits, cache = self._run(tokens, length, cache, every=False)
            tokens = _choose(logits)
        return time.perf_counter() - begin

    def logits(self, ids: Array) -> Array:
        """Logits float32 [length, vocabulary] of int64 ids [length]."""
        logits, _ = self._run(ids[None], 0, self._empty(1, len(ids)), every=True)
        return np.array(logits.numpy()[0], dtype=np.float32)  # a copy: the array may be gone with its value

    def rest(self) -> None:
        """One token through the graph, after which the arena gives back what larger runs have made it reserve."""
        options = onnxruntime.RunOptions()
        options.add_run_config_entry(SHRINK, "cpu:0")
        self._run(np.zeros((1, 1), np.int64), 0, self._empty(1, 1), every=False, options=options)

    def _run(self, ids: Array, past: int, cache: Cache, *, every: bool, options: Any = None) -> tuple[Any, Cache]:
        feeds = self._feeds(ids, past, every=every) | cache
        results = self._session.run_with_ort_values(self._outputs, feeds, options)
        named = dict(zip(self._outputs, results, strict=True))
        logits = named.pop("logits")
        return logits, {name.replace(CACHE_OUT, CACHE_IN): value for name, value in named.items()}

    def _feeds(self, ids: Array, past: int, *, every: bool) -> dict[str, Any]:
        """All inputs but the cache."""
        batch, length = ids.shape
        positions = np.broadcast_to(np.arange(past, past + length), (batch, length))
        arrays = {
            "input_ids": ids,
            "attention_mask": np.ones((batch, past + length), np.int64),
            "position_ids": positions,
        }
        feeds = {name: _value(array) for name, array in arrays.items() if name in self._inputs}
        return feeds if every else feeds | self._keep_one

    def _empty(self, batch: int, capacity: int) -> Cache:  # noqa: ARG002  # how long a buffer in place must be
        return self._cache(batch, 0)

    def _cache(self, batch: int, length: int) -> Cache:
        cache = {}
        for name, port in self._inputs.items():
            if name.startswith(CACHE_IN):
                _, heads, _, width = port.shape
                dtype = np.float16 if port.type == "tensor(float16)" else np.float32
                cache[name] = _value(np.zeros((batch, heads, length, width), dtype))
        return cache


class InPlaceRunner(OnnxRunner):
    """The same for a graph in place: past and present are one buffer, as long as the task needs."""

    def _run(self, ids: Array, past: int, cache: Cache, *, every: bool, options: Any = None) -> tuple[Any, Cache]:
        feeds = self._feeds(ids, past, every=every) | cache
        batch, length = ids.shape
        vocabulary = self._session.get_outputs()[0].shape[-1]
        logits = _value(np.empty((batch, length if every else 1, vocabulary), np.float32))
        results = {"logits": logits, **{name.replace(CACHE_IN, CACHE_OUT): value for name, value in cache.items()}}
        run_into(self._session, feeds, results, options)
        return logits, cache

    def _empty(self, batch: int, capacity: int) -> Cache:
        return self._cache(batch, capacity)


def _value(array: Array) -> Any:
    # Not ascontiguousarray: it makes a vector of a scalar.
    return OrtValue.ortvalue_from_numpy(np.require(array, requirements="C"))


def _choose(logits: Any) -> Array:
    """The likeliest next token of every row, int64 [batch, 1]."""
    chosen: Array = logits.numpy()[:, -1].argmax(axis=-1)[:, None]
    return chosen
