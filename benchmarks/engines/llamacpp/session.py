"""llama.cpp, through llama-cpp-python's bindings of its C interface."""

from __future__ import annotations

import ctypes
import time
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np

from benchmarks.engine import Array, Runner

library: Any = llama_cpp  # its ctypes functions are typed for pointers that ctypes itself makes


def load(path: Path, name: str, threads: int) -> Runner:  # noqa: ARG001  # every engine's `load` has one signature
    """The model, mapped into memory as llama.cpp does by default, and a context for one sequence."""
    return LlamaRunner(path, threads)


class Rows:
    """A llama_batch for a number of tokens, filled through numpy: no Python loop over tokens."""

    def __init__(self, tokens: int) -> None:
        self.batch = library.llama_batch_init(tokens, 0, 1)
        as_array = np.ctypeslib.as_array
        self._token = as_array(self.batch.token, (tokens,))
        self._position = as_array(self.batch.pos, (tokens,))
        self._wanted = as_array(self.batch.logits, (tokens,))
        as_array(self.batch.n_seq_id, (tokens,))[:] = 1

    def fill(self, ids: Array, past: int, *, every: bool) -> Any:
        """The batch for int64 ids [batch, length], row i being sequence i, at positions from `past`."""
        rows, length = ids.shape
        count = ids.size
        self._token[:count] = ids.reshape(-1)
        self._position[:count] = np.tile(np.arange(past, past + length), rows)
        self._wanted[:count] = every
        self._wanted[length - 1 : count : length] = True
        for row in range(rows):
            for index in range(row * length, (row + 1) * length):
                self.batch.seq_id[index][0] = row
        self.batch.n_tokens = count
        return self.batch

    def close(self) -> None:
        """Free the batch."""
        library.llama_batch_free(self.batch)


class LlamaContext:
    """A llama_context for `rows` sequences, each with a cache of its own of the model's whole context."""

    def __init__(self, model: Any, rows: int, threads: int) -> None:
        self._vocabulary = library.llama_vocab_n_tokens(library.llama_model_get_vocab(model))
        length = library.llama_model_n_ctx_train(model)
        options = library.llama_context_default_params()
        options.n_ctx = rows * length
        options.n_batch = rows * length
        options.n_seq_max = rows
        options.n_threads = options.n_threads_batch = threads
        options.kv_unified = False  # one buffer per sequence: no row reads another's cache, and none may share it
        self._context = library.llama_init_from_model(model, options)
        if not self._context:
            raise RuntimeError(f"llama.cpp cannot make a context of {rows} sequences")
        self._memory = library.llama_get_memory(self._context)
        self._rows = Rows(rows * length)

    def fill(self, ids: Array, past: int, *, every: bool = False) -> Any:
        """A batch of int64 ids [batch, length] at positions from `past`."""
        return self._rows.fill(ids, past, every=every)

    def run(self, batch: Any) -> None:
        """Run a batch; its logits are in memory when this returns. RuntimeError for any code but 0."""
        code = library.llama_decode(self._context, batch)
        if code != 0:
            raise RuntimeError(f"llama_decode returned {code}")
        library.llama_synchronize(self._context)

    def logits(self, count: int) -> Array:
        """The wanted logits of the last batch, float32 [count, vocabulary]: a view that the next batch overwrites."""
        pointer = library.llama_get_logits(self._context)
        return np.ctypeslib.as_array(pointer, (count, self._vocabulary))

    def forget(self) -> None:
        """Empty every sequence's cache."""
        library.llama_memory_clear(self._memory, False)  # noqa: FBT003  # a C function has no keywords

    def repeat(self, rows: int) -> None:
        """Copy sequence 0's cache to the others."""
        for row in range(1, rows):
            library.llama_memory_seq_cp(self._memory, 0, row, -1, -1)

    def close(self) -> None:
        """Free the context and its batch."""
        self._rows.close()
        library.llama_free(self._context)


class LlamaRunner:
    """A model with a context for one sequence, and one for several while a batch is measured."""

    def __init__(self, path: Path, threads: int) -> None:
        self._threads = threads
        self._silence = library.llama_log_callback(lambda *_: None)  # kept: the library calls it as long as it lives
        library.llama_log_set(self._silence, ctypes.c_void_p(0))
        library.llama_backend_init()
        self._model = library.llama_model_load_from_file(str(path).encode(), library.llama_model_default_params())
        if not self._model:
            raise RuntimeError(f"llama.cpp cannot load {path.name}")
        self._contexts = {1: self._context(1)}

    def prefill(self, ids: Array, *, every: bool) -> float:
        """llama_decode of the whole prompt, in its own micro-batches of 512; the batch was filled before."""
        context = self._for(len(ids))
        context.forget()
        batch = context.fill(ids, 0, every=every)
        begin = time.perf_counter()
        context.run(batch)
        return time.perf_counter() - begin

    def decode(self, prompt: Array, batch: int, steps: int) -> float:
        """llama_decode of one token of every sequence, filling that batch, and numpy's argmax."""
        context = self._for(batch)
        context.forget()
        context.run(context.fill(prompt[None], 0))
        context.repeat(batch)
        tokens = np.repeat(context.logits(1).argmax(axis=-1)[:, None], batch, axis=0)
        past = len(prompt)
        begin = time.perf_counter()
        for length in range(past, past + steps):
            context.run(context.fill(tokens, length))
            tokens = context.logits(batch).argmax(axis=-1)[:, None]
        return time.perf_counter() - begin

    def logits(self, ids: Array) -> Array:
        """Logits float32 [length, vocabulary] of int64 ids [length]."""
        context = self._for(1)
        context.forget()
        context.run(context.fill(ids[None], 0, every=True))
        return context.logits(len(ids)).copy()

    def rest(self) -> None:
        """Free the contexts for several sequences."""
        for rows in [rows for rows in self._contexts if rows > 1]:
            self._contexts.pop(rows).close()

    def _for(self, rows: int) -> LlamaContext:
        if rows not in self._contexts:
            self._contexts[rows] = self._context(rows)
        return self._contexts[rows]

    def _context(self, rows: int) -> LlamaContext:
        return LlamaContext(self._model, rows, self._threads)
