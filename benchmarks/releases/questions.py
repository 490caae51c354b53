"""Compute what every release is asked, and what PyTorch answers, in a process of its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.engine import Array
from model.contract import Dimensions
from verify.interop.likeliest import STATED
from verify.interop.questions import Group
from verify.reference.corpus import Batch, Corpus, left_padded
from verify.scoring.decoding import active

PROMPTS = (9, 33, 65, 129)  # tokens: kernels take other ways beyond 32, 64 and 128
ROWS = (70, 9, 33)  # of a batch, padded on the left
STEPS = 3  # tokens that are decoded one by one after each prompt
NEW_TOKENS = 6  # that Transformers.js is asked to generate
PLACE = 700  # of the corpus' pieces, away from those of the checks


@dataclass(frozen=True)
class Question:
    """A batch of which the first `prompt` positions are one pass and the rest steps; logits [rows, length, words]."""

    name: str
    batch: Batch
    prompt: int
    logits: Array


@dataclass(frozen=True)
class Asked:
    """The questions with PyTorch's answers: forced texts for sessions, and free ones for Transformers.js."""

    cases: tuple[Question, ...]
    groups: tuple[Group, ...]

    def write(self, path: Path, dims: Dimensions) -> None:
        """Write the questions alone, and the shape of the cache, as JSON that any language reads."""
        cases = [
            {"ids": case.batch.ids.tolist(), "mask": case.batch.mask.tolist(), "prompt": case.prompt}
            for case in self.cases
        ]
        groups = [{"texts": list(group.texts)} for group in self.groups]
        free = {"groups": groups, "strings": [], "new_tokens": NEW_TOKENS, "stated": STATED, "lengths": []}
        table = {"cases": cases, "heads": dims.kv_heads, "width": dims.head_dim, **free}
        path.write_text(json.dumps(table), encoding="utf-8")


def name_of(lengths: Sequence[int]) -> str:
    """Return what a question is called in the report."""
    return f"{lengths[0]} tokens" if len(lengths) == 1 else f"batch of {', '.join(map(str, lengths))}"


class Asker:
    """Loads the source and the text; made in a process of its own by `benchmarks.remote`."""

    def __init__(self, source: Path, text: Path, seed: int, pickle: bool) -> None:  # noqa: FBT001  # passed by place
        import torch  # here, not above: the process that directs the run names this class, and needs no PyTorch

        from verify.reference.model import Reference

        torch.set_num_threads(1)
        self._reference = Reference(source, allow_pickle=pickle)
        self._corpus = Corpus(text, self._reference.tokenizer, seed)

    def ask(self) -> Asked:
        """Draw the questions that fit the model's context, and answer them."""
        room = self._reference.dimensions.context - max(STEPS, NEW_TOKENS)
        wanted = [*((length,) for length in PROMPTS), ROWS]
        fitting = [lengths for lengths in wanted if max(lengths) <= room]
        return Asked(tuple(map(self._case, fitting)), tuple(map(self._group, fitting)))

    def _case(self, lengths: tuple[int, ...]) -> Question:
        batch = self._corpus.batch(tuple(n + STEPS for n in lengths), PLACE, self._pad)
        logits = self._reference.forward(batch.ids, batch.mask, batch.positions).logits
        return Question(name_of(lengths), batch, max(lengths), logits)

    def _group(self, lengths: tuple[int, ...]) -> Group:
        tokenizer: Any = self._reference.tokenizer
        pieces = [self._corpus.piece(n, PLACE + 50 + row).tolist() for row, n in enumerate(lengths)]
        texts = tuple(str(tokenizer.decode(piece, clean_up_tokenization_spaces=False)) for piece in pieces)
        batch = left_padded([tokenizer(text, return_tensors="np")["input_ids"][0] for text in texts], self._pad)
        tokens, logits = self._reference.greedy(batch.ids, batch.mask, NEW_TOKENS)
        return Group(texts, batch, tokens, logits, active(tokens, self._reference.ends))

    @property
    def _pad(self) -> int:
        return self._reference.end or 0
