"""An ONNX file as the reference, for those who have no checkpoint any more: it runs in a child process with bounds.

What a file computes is then held against another file, not against PyTorch. The file may be anybody's, so this process
parses nothing of it: onnxruntime runs it elsewhere, as it stands, on one thread at the lowest optimization level.
"""

from __future__ import annotations

from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from model import checkpoint, generation, tokenizer
from model.architecture import of_model_type
from model.contract import Dimensions
from model.settings import configuration
from pipeline.errors import InputError
from pipeline.recipe.recipe import LEVELS, Verify
from verify.candidate.session import Candidate, Output, positions_of
from verify.check import Array, NotApplicable
from verify.reference.model import Answer, Reference
from verify.reference.sizes import differing, sizes
from verify.sandbox import limits
from verify.sandbox.spawned import NoAnswerError, Spawned, answer_all, describe

NO_MODULES = "the reference is an ONNX file, which has no PyTorch modules"


class GraphProcess(Spawned):
    """Reads and runs foreign ONNX files in a child process, within the recipe's bounds on time and memory."""

    def __init__(self, path: Path, bounds: Verify) -> None:
        self.path, self._bounds = path, bounds

    def sizes(self, path: Path) -> dict[str, int]:
        """The sizes that a file's inputs and outputs state; InputError if it cannot be read."""
        found: dict[str, int] = self._ask(path, ("sizes", path))
        return found

    def run(self, *feed: Any, keep: int) -> Output:
        """Run the reference, as `Candidate.forward`; InputError if it gives no answer."""
        output: Output = self._ask(self.path, ("run", (feed, keep)))
        return output

    def _ask(self, path: Path, message: object) -> Any:
        hint = "use another reference: within verify.timeout_s and verify.memory_gb of the recipe it gave no answer"
        try:
            pipe = self._spawn(_serve, self.path, self._bounds.memory_gb)
            kind, value = self._request(pipe, message, self._bounds.timeout_s)
        except NoAnswerError as error:
            raise InputError(f"running it: {error}", where=path, hint=hint) from error
        if kind == "error":
            raise InputError(f"it cannot be run: {value}", where=path, hint=hint)
        return value


def _serve(pipe: Connection, path: Path, memory_gb: float) -> None:
    limits.die_with_parent()
    limits.bound_memory(int(memory_gb * 2**30))
    graph = Candidate(path, LEVELS[0], threads=1)

    def answer(message: tuple[str, Any]) -> tuple[str, Any]:
        kind, value = message
        try:
            if kind == "sizes":
                return "ok", sizes(value)
            feed, keep = value
            return "ok", graph.forward(*feed, keep=keep)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001  # whatever a foreign graph provokes is said, not raised here
            return "error", describe(error)

    answer_all(pipe, answer)


@dataclass(frozen=True)
class GraphCache:
    """The cache tensors after a call, by layer and part, as the graph returned them."""

    tensors: dict[str, Array]

    def reorder_cache(self, rows: Any) -> None:
        """Keep these rows, in this order, as transformers' own cache does: in place."""
        chosen = np.asarray(rows)
        self.tensors.update({name: value[chosen] for name, value in self.tensors.items()})


@dataclass(frozen=True)
class GraphAnswer(Answer):
    """As `Answer`; `cache` is a GraphCache."""

    def present(self) -> dict[str, Array]:
        """See Answer."""
        return {name: np.asarray(value, np.float32) for name, value in self.cache.tensors.items()}


class GraphReference(Reference):
    """An ONNX file with the config and the tokenizer of a directory; raises InputError where they do not fit it."""

    def __init__(
        self, process: GraphProcess, directory: Path, candidates: tuple[Path, ...], context: int | None = None
    ) -> None:
        self._process, self.directory, self._context = process, directory, context
        hint = "name the directory with the model's config.json and tokenizer with --source"
        if not (directory / "config.json").is_file():
            raise InputError("no config.json", where=directory, hint=hint)
        path = directory / "config.json"
        found = checkpoint.read_config(path)
        self._config = configuration(found, path)
        self._dimensions = of_model_type(self._config.model_type, path).config.dimensions(found, path)
        self.tokenizer: Any = tokenizer.load(directory)
        self.ends = generation.ids(generation.stated(directory).get("eos_token_id"), self.dimensions.vocabulary)
        for file in (process.path, *candidates):
            wrong = differing(process.sizes(file), self.dimensions)
            if wrong is not None:
                what = f"{file.name} {wrong} that {directory.name}/config.json states"
                raise InputError(what, where=file, hint="name two files of one model, and its config with --source")

    @property
    def model(self) -> Any:
        """Raise NotApplicable: there is no PyTorch model."""
        raise NotApplicable(NO_MODULES)

    @property
    def loaded_config(self) -> Any:
        """See Reference."""
        return self._config

    @property
    def dimensions(self) -> Dimensions:
        """Sizes as the directory's config has them."""
        return self._dimensions

    def by_entry(self) -> Array:
        """Token ids as they are numbered: bytes come first and late merges last, and no table is at hand."""
        return np.arange(self.dimensions.vocabulary)

    def forward(self, ids: Array, mask: Array, positions: Array, cache: Any = None, *, keep: int = 0) -> Answer:
        """See Reference."""
        past = None if cache is None else cache.tensors
        found = self._process.run(*map(np.asarray, (ids, mask, positions)), past, keep=keep)
        return GraphAnswer(found.logits[:, -keep:], GraphCache(found.cache))

    def greedy(self, ids: Array, mask: Array, new_tokens: int) -> tuple[Array, Array]:
        """As transformers generates: a row that has ended goes on with the end token, until all have."""
        ids, mask = np.asarray(ids), np.asarray(mask)
        rows, ended, cache = len(ids), np.zeros(len(ids), bool), None
        tokens, seen = [], []
        positions = positions_of(mask)
        for _ in range(new_tokens):
            answer = self.forward(ids, mask, positions, cache, keep=1)
            seen.append(answer.logits[:, -1])
            chosen = np.where(ended, self.end or 0, seen[-1].argmax(axis=-1))
            tokens.append(chosen)
            ended |= np.isin(chosen, self.ends)
            if ended.all():
                break
            ids, cache = chosen[:, None], answer.cache
            mask = np.concatenate([mask, np.ones((rows, 1), np.int64)], axis=1)
            positions = positions_of(mask)[:, -1:]
        return np.stack(tokens, axis=1), np.stack(seen, axis=1)
