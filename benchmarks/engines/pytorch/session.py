"""Transformers' own model in PyTorch."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache, StaticCache

from benchmarks.engine import Array, Runner
from model import settings


def load(path: Path, name: str, threads: int) -> Runner:
    """The model, its forward pass compiled for any length if asked for."""
    torch.set_num_threads(threads)
    return PyTorchRunner(settings.load(path).eval(), compiled=name == "compiled")


class PyTorchRunner:
    """Transformers' forward pass. Its cache grows by concatenation when eager, and has a fixed length when compiled.

    Compiled is what transformers' documentation advises: static shapes and a StaticCache for decoding, so that one
    compiled graph serves every step (at the price of attending over the model's whole context). The prompt before
    decoding, which is not timed, is run eagerly.
    """

    def __init__(self, model: Any, *, compiled: bool) -> None:
        self._model = model
        self._compiled = compiled
        torch._dynamo.config.recompile_limit = 64  # noqa: SLF001  # documented there: one graph per shape that is measured
        self._forward = torch.compile(model.forward, dynamic=False) if compiled else model.forward

    @torch.inference_mode()
    def prefill(self, ids: Array, *, every: bool) -> float:
        """The forward pass; the last position's logits only, unless every one is asked for."""
        tensor = torch.from_numpy(ids)
        begin = time.perf_counter()
        self._forward(input_ids=tensor, cache=DynamicCache(), logits_to_keep=0 if every else 1)
        return time.perf_counter() - begin

    @torch.inference_mode()
    def decode(self, prompt: Array, batch: int, steps: int) -> float:
        """Forward passes, with argmax between them."""
        rows = torch.from_numpy(prompt[None]).repeat(batch, 1)
        context = self._model.config.max_position_embeddings
        cache = StaticCache(self._model.config, max_cache_len=context) if self._compiled else DynamicCache()
        result = self._model(input_ids=rows, cache=cache, logits_to_keep=1)
        begin = time.perf_counter()
        for _ in range(steps):
            tokens = result.logits[:, -1:].argmax(-1)
            result = self._forward(input_ids=tokens, cache=cache, logits_to_keep=1)
        return time.perf_counter() - begin

    @torch.inference_mode()
    def logits(self, ids: Array) -> Array:
        """Logits float32 [length, vocabulary] of int64 ids [length]."""
        tensor = torch.from_numpy(np.array(ids[None]))
        return np.asarray(self._forward(input_ids=tensor, cache=DynamicCache()).logits[0].numpy())

    def rest(self) -> None:
        """Nothing: PyTorch gives memory back when a tensor dies."""
