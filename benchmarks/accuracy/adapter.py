"""One class around both sides, so that the harness truncates, batches and scores the reference and a graph alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np
import torch

from verify.candidate.session import Candidate
from verify.check import Array
from verify.reference.model import Reference

LEAST = 32  # tokens that must be common with the sequence before for its cache to be used


class Model(Protocol):
    """One side: a step from ids, mask, positions and a past to logits and the cache after it."""

    def step(self, ids: Array, mask: Array, positions: Array, past: Any) -> tuple[Array, Any]:
        """Logits float32 [batch, sequence, vocabulary] and the cache; `past` None: from the beginning."""

    def crop(self, past: Any, length: int) -> Any:
        """The cache of the first `length` tokens."""


@dataclass
class Before:
    """The sequence before: ids [length], its logits and its cache."""

    ids: Array
    logits: Array
    past: Any


class HarnessModel:
    """Give HFLM what it needs of a model: a device, a config, and a call from token ids to logits.

    Requests of one benchmark begin alike (the shots; the question, once for each answer). A sequence on its own is
    computed from where it differs from the one before, which saves most of MMLU and TruthfulQA.
    """

    device = torch.device("cpu")

    def __init__(self, model: Model, config: Any) -> None:
        self._model = model
        self._before: Before | None = None
        self.config = config
        self.watch: Callable[[int], object] = lambda _: None  # told the number of tokens after every call

    def __call__(self, input_ids: torch.Tensor) -> Any:
        """Logits float32 [batch, sequence, vocabulary] of int64 ids, padded on the right, which nothing reads."""
        ids = input_ids.numpy()
        begin, past = self._common(ids)
        positions = np.tile(np.arange(begin, ids.shape[1], dtype=np.int64), (len(ids), 1))
        logits, past = self._model.step(ids[:, begin:], np.ones_like(ids), positions, past)
        if begin and self._before is not None:
            logits = np.concatenate([self._before.logits[:, :begin], logits], axis=1)
        self._before = Before(ids[0], logits, past) if len(ids) == 1 else None
        self.watch(ids.size)
        return SimpleNamespace(logits=torch.from_numpy(logits))

    def _common(self, ids: Array) -> tuple[int, Any]:
        """Return how many tokens need not be computed again, and their cache; always fewer than there are."""
        if self._before is None or len(ids) > 1:
            return 0, None
        most = min(len(self._before.ids), ids.shape[1] - 1)
        same = self._before.ids[:most] == ids[0, :most]
        length = most if same.all() else int(same.argmin())
        return (length, self._model.crop(self._before.past, length)) if length >= LEAST else (0, None)


@dataclass(frozen=True)
class Pytorch:
    """The source in PyTorch."""

    reference: Reference

    def step(self, ids: Array, mask: Array, positions: Array, past: Any) -> tuple[Array, Any]:
        """See Model."""
        answer = self.reference.forward(ids, mask, positions, past)
        return answer.logits, answer.cache

    def crop(self, past: Any, length: int) -> Any:
        """In place: the longer cache is not needed again."""
        past.crop(length - past.get_seq_length())  # a count below zero: how many tokens go
        return past


@dataclass(frozen=True)
class OnnxModel:
    """An ONNX file in onnxruntime."""

    candidate: Candidate

    def step(self, ids: Array, mask: Array, positions: Array, past: Any) -> tuple[Array, Any]:
        """See Model."""
        made = self.candidate.forward(ids, mask, positions, past)
        return made.logits, made.cache

    def crop(self, past: Any, length: int) -> Any:
        """A view of each tensor."""
        return {name: value[:, :, :length] for name, value in past.items()}


def of_reference(reference: Reference) -> HarnessModel:
    """The source in PyTorch, as the harness sees it."""
    return HarnessModel(Pytorch(reference), reference.model.config)


def of_graph(path: Path, reference: Reference) -> HarnessModel:
    """An ONNX file as the harness sees it, at the optimization level that users run."""
    return HarnessModel(OnnxModel(Candidate(path, "enable_all")), reference.model.config)
