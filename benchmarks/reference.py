"""The reference, in a process of its own: PyTorch, float32, eager attention, as `verify` has it.

This and benchmarks/subject.py judge by verify's own code: a peer's divergence must be computed as that of our files is,
or the two columns of one table would not be one figure.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.engine import Array
from verify.checks.divergence import Settings, case_of


class Judge:
    """Loads the source and the text; `case` saves what the candidates are compared with."""

    def __init__(self, source: Path, text: Path, seed: int, settings: Settings, threads: int, pickle: bool) -> None:  # noqa: FBT001, PLR0913, PLR0917  # called through Remote, which passes arguments by place
        import torch  # here, not above: the process that directs the run names this class, and needs no PyTorch

        from verify.reference.corpus import Corpus
        from verify.reference.model import Reference

        torch.set_num_threads(threads)
        self._reference = Reference(source, allow_pickle=pickle)
        self._corpus = Corpus(text, self._reference.tokenizer, seed)
        self._chunks = self._corpus.chunks(settings.chunk, settings.chunks)

    def text(self, length: int) -> Array:
        """`length` tokens of the text, int64 [length], for what is timed."""
        return self._corpus.piece(length, 0)

    def case(self, number: int, directory: Path) -> None:
        """Save chunk `number`: its ids, and the reference's logits and probabilities of its second half."""
        ids = self._chunks[number]
        case_of(f"chunk {number}", self._reference, ids, len(ids) // 2).save(directory)
