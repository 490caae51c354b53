"""The candidate: one ONNX file in one onnxruntime session, at one graph optimization level."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from model.contract import CACHE_IN, CACHE_OUT, LOGITS_TO_KEEP
from model.session import NO_SPINNING, data_in, open_session, options, stays_in_place
from verify.candidate import in_place
from verify.candidate.unrounded import has_float16, unrounded
from verify.candidate.widened import widen
from verify.check import Array

Cached = tuple[int, int]  # heads of keys and values, and the width of one


@dataclass(frozen=True)
class Output:
    """One call's result: logits float32 [batch, sequence, vocabulary]; cache tensors by layer and part."""

    logits: Array
    cache: dict[str, Array]


@dataclass(frozen=True)
class Content:
    """Hold what is run in the place of a file: a serialized model, and those of its tensors that lie in no file."""

    model: bytes
    numbers: Mapping[str, Array]


class Candidate:
    """A session that is fed exactly what its graph declares, and told nothing of the reference.

    Loading and running raise onnxruntime's own errors; the caller reports them as failures of the running check.
    """

    def __init__(
        self, path: Path, level: str, twin: Candidate | None = None, *, threads: int = 0, content: Content | None = None
    ) -> None:
        self.path = path
        self.cached: Cached | None = None  # may be told, for a graph that leaves them open
        self._content = content  # what is run in the place of the file, if not the file itself
        self.level = level
        self.threads = threads or len(os.sched_getaffinity(0))  # onnxruntime would bind its own to cores of others
        self.twin = twin  # what the recipe makes in this file's place
        self._session: onnxruntime.InferenceSession | None = None

    @property
    def session(self) -> onnxruntime.InferenceSession:
        """The session, created when first needed: the check `structure` must be able to judge what cannot load."""
        if self._session is None:
            own = self._content
            self._session = self.open(self.path) if own is None else self.open(own.model, own.numbers)
        return self._session

    @functools.cached_property
    def _in_place(self) -> bool:
        return stays_in_place(self.session)

    def open(self, model: Path | bytes, numbers: Mapping[str, Array] | None = None) -> onnxruntime.InferenceSession:
        """A session of a file, or of a serialized model, with this candidate's options.

        `numbers` are tensors of the model that lie in no file, by name.
        """
        own = options(self.level, self.threads)
        # The arena would keep the largest case's buffers in every one of the candidates' processes.
        own.enable_cpu_mem_arena = False
        own.add_session_config_entry(*NO_SPINNING)
        if isinstance(model, bytes):
            own.add_session_config_entry(*data_in(self.path.resolve().parent))
        if numbers:
            values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in numbers.values()]
            own.add_external_initializers(list(numbers), values)
        return open_session(model, own)

    @functools.cached_property
    def without_rounding(self) -> Candidate | None:
        """The same graph in float32, no activation rounded to int8 or float16; None if the file itself rounds none."""
        return self._without_rounding(float16=True)

    @functools.cached_property
    def without_rounding_of_twin(self) -> Candidate | None:
        """The same graph without the rounding that its twin has too: float16 in this file alone stays, to be seen."""
        if self.twin is None or has_float16(onnx.load(self.twin.path, load_external_data=False)):
            return self.without_rounding
        return self._without_rounding(float16=False)

    def _without_rounding(self, *, float16: bool) -> Candidate | None:
        model = unrounded(self.path, float16=float16)
        if model is None:
            return None
        numbers = widen(model, self.open)
        content = Content(model.SerializeToString(), numbers)
        made = Candidate(self.path, self.level, threads=self.threads, content=content)
        made.cached = self.cached
        return made

    def empty_cache(self, batch: int) -> dict[str, Array]:
        """Zero-length past for every cache input, float32 [batch, heads, 0, head_dim]."""
        ports = [port for port in self.session.get_inputs() if port.name.startswith(CACHE_IN)]
        return {port.name.removeprefix(CACHE_IN): empty(port, batch, self.cached) for port in ports}

    @property
    def offers_last_logits(self) -> bool:
        """Return whether a caller can ask for the logits of the last positions only."""
        return any(port.name == LOGITS_TO_KEEP for port in self.session.get_overridable_initializers())

    def forward(
        self, ids: Array, mask: Array, positions: Array, cache: dict[str, Array] | None = None, *, keep: int = 0
    ) -> Output:
        """Run int64 ids [batch, sequence], mask [batch, past + sequence], positions [batch, sequence].

        `keep` asks for the logits of the last positions only, 0 for all; a graph that does not offer this gives all.
        """
        cache = self.empty_cache(ids.shape[0]) if cache is None else cache
        feeds = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
        feeds |= {f"{CACHE_IN}{name}": value for name, value in cache.items()}
        declared = {port.name for port in self.session.get_inputs()}
        names = [port.name for port in self.session.get_outputs()]
        feeds = {name: np.ascontiguousarray(value) for name, value in feeds.items() if name in declared}
        if keep and self.offers_last_logits:
            feeds[LOGITS_TO_KEEP] = np.array(keep, np.int64)
        if self._in_place:
            results = in_place.run(self.session, names, feeds)
        else:
            results = dict(zip(names, self.session.run(names, feeds), strict=True))
        present = {n.removeprefix(CACHE_OUT): value for n, value in results.items() if n.startswith(CACHE_OUT)}
        return Output(np.asarray(results["logits"], dtype=np.float32), present)


def empty(port: Any, batch: int, cached: Cached | None) -> Array:
    """A cache input of length 0, [batch, heads, 0, width]; `cached` are those where the graph leaves one open.

    Raises TypeError where nobody states them.
    """
    stated = port.shape[1], port.shape[3]
    heads, width = (size if isinstance(size, int) else (cached or stated)[at] for at, size in enumerate(stated))
    if not (isinstance(heads, int) and isinstance(width, int)):
        raise TypeError(f"{port.name} leaves open how many heads there are, or how wide one is")
    return np.zeros((batch, heads, 0, width), np.float16 if port.type == "tensor(float16)" else np.float32)


def positions_of(mask: Array) -> Array:
    """Position ids of a left-padded batch: cumsum(mask) - 1, and 1 at padding, as Transformers.js makes them."""
    positions: Array = np.where(mask == 1, np.cumsum(mask, axis=1) - 1, 1)
    return positions.astype(np.int64)
