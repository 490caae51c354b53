"""Compute what every runtime is asked, and what the PyTorch reference answers, once for all of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.recipe.runtimes import Runtimes
from verify.check import Array
from verify.checks.tokenizer import HARD
from verify.interop import lengths
from verify.interop.lengths import Lengths
from verify.reference.corpus import Batch, Corpus, left_padded
from verify.scoring.decoding import Beam, ReferenceDecoder, Sampling, active, beam_search

if TYPE_CHECKING:  # torch takes seconds to load
    from verify.reference.model import Reference

BEAMS = 4
BEAM_TOKENS = 8  # of each search: the slowest question
# The batch whose logits are compared at every position: the first of the check `logits`, whose tolerance it is held to.
BATCH, BATCH_PLACE = (5, 1, 18, 11), 100
BEAM_TEXTS = 4  # the recipe's bound on beam_near_ties is a share of four searches
PIECES, PIECE = 20, 2000  # of the verification text, in characters, for the tokenizers
PLACE = 400  # of the corpus' pieces, away from those of the checks
SURROGATE = re.compile("[\ud800-\udfff]")

# Beside the tokenizer check's strings: what programs in other languages, with other string types, get wrong.
STRINGS = (
    *HARD,
    "a\u0300\u0301\u0302 o\u0308\u0323 \u1100\u1161\u11a8 क्षि",  # combining marks, jamo, conjuncts
    "👨‍👩‍👧‍👦👩🏿‍🚀🏴󠁧󠁢󠁥󠁮󠁧󠁿 1️⃣ ❤️‍🔥",  # joined with U+200D, skin tones, tags, variation selectors
    "a" + " " * 40 + "b" + "\t" * 9 + "c" + "\n" * 7 + " \n \t d",
    "\u00a0\u2003\u3000\u2028\u2029\u0085\u1680 no-break, wide and line separators",
    "".join(map(chr, range(32))) + "".join(map(chr, range(127, 160))),  # all control characters
    "\u0000",
    "nul \u0000 inside \u0000\u0000",
    "antidisestablishmentarianism" * 60,
    "ab1" * 400 + "!?" * 300,
    "שלום עולם, \u202bمرحبا بالعالم\u202c 123 \u200fabc\u200e",  # noqa: RUF001  # right to left, with its marks
    "one\r\ntwo\rthree\n\r\n",
    "<|endoftext|>",
    "<|endoftext|><|endoftext|> <|endoftext |> <|ENDOFTEXT|>",
    "𝒜𝓁𝑔 𐍈 🜁 𠜎 \U0010ffff \ufffd \ufffe",  # noqa: RUF001  # beyond the basic plane, and what is no character
    "ﬀ ½ ² Ⅷ ǅ ß ẞ İ ı Σ ς",  # noqa: RUF001  # several widths, cases and numbers of one letter
    "'S 'Re 'LL n't ''s '",
    "lone \ud800 high, \udfff low, \udc00\ud800 turned",  # half a surrogate pair, three times
)


@dataclass(frozen=True)
class Group:
    """Texts continued together: the prompt, left-padded, and the reference's continuation.

    tokens int64 [rows, steps], logits float32 [rows, steps, vocabulary], active bool [rows, steps] up to the end token.
    """

    texts: tuple[str, ...]
    batch: Batch
    tokens: Array
    logits: Array
    active: Array


@dataclass(frozen=True)
class Questions:
    """The questions with the reference's answers. `whole` are the logits of `batch`, without a cache."""

    groups: tuple[Group, ...]
    batch: Batch
    whole: Array  # float32 [rows, length, vocabulary]
    sampled: Group
    sampling: Sampling
    seed: int
    beams: tuple[Beam, ...]  # of the groups' first texts, in order
    string_ids: tuple[list[int], ...]
    ends: tuple[int, ...]
    new_tokens: int
    strings: tuple[str, ...]
    lengths: Lengths

    def asked(self) -> dict[str, Any]:
        """The questions alone, as plain values that any language reads: no answer among them."""
        groups = [{"texts": list(g.texts)} for g in self.groups]
        return {
            "groups": groups,
            "batch": {"ids": np.asarray(self.batch.ids).tolist(), "mask": np.asarray(self.batch.mask).tolist()},
            "beams": {"number": BEAMS, "new_tokens": BEAM_TOKENS, "texts": beam_texts(self.groups)},
            "sampling": {**asdict(self.sampling), "seed": self.seed, "texts": list(self.sampled.texts)},
            "strings": list(self.strings),
            "new_tokens": self.new_tokens,
            "end": self.ends[0] if self.ends else None,
            "ends": list(self.ends),
            "lengths": self.lengths.asked(),
        }


def readable(text: str) -> str:
    """The text as UTF-8 has to carry it: every lone surrogate becomes U+FFFD, which is what JavaScript's encoder does.

    Python's tokenizers refuse such a text; JavaScript's strings can hold it, so a browser's user can type it.
    """
    return SURROGATE.sub("\ufffd", text)


def ask_reference(reference: Reference, corpus: Corpus, runtimes: Runtimes, where: str) -> Questions:
    """Draw the texts and let the reference answer; `where` names the recipe's table in an error."""
    asked = lengths.ask(reference, corpus, runtimes, where)
    singles = [(_text(reference, corpus, length, i),) for i, length in enumerate(runtimes.prompts)]
    together = tuple(_text(reference, corpus, length, 20 + i) for i, length in enumerate(runtimes.batch))
    groups = tuple(_greedy(reference, texts, runtimes.new_tokens) for texts in (*singles, together))
    sampling, strings = Sampling(), (*STRINGS, *_pieces(corpus.text))
    batch = corpus.batch(BATCH, BATCH_PLACE, reference.end or 0)
    decoder = ReferenceDecoder(reference)
    beams = [
        beam_search(decoder, ids, beams=BEAMS, new_tokens=BEAM_TOKENS, ends=reference.ends)
        for ids in (_ids(reference, text) for text in beam_texts(groups))
    ]
    return Questions(
        groups=groups,
        batch=batch,
        whole=reference.forward(batch.ids, batch.mask, batch.positions).logits,
        sampled=_sampled(reference, all_texts(groups), sampling, corpus.seed, runtimes.new_tokens),
        sampling=sampling,
        seed=corpus.seed,
        beams=tuple(beams),
        string_ids=tuple(_ids(reference, readable(text)).tolist() for text in strings),
        ends=reference.ends,
        new_tokens=runtimes.new_tokens,
        strings=strings,
        lengths=asked,
    )


def beam_texts(groups: Sequence[Group]) -> list[str]:
    """The texts that beam search continues: one prompt at a time."""
    return list(all_texts(groups)[:BEAM_TEXTS])


def all_texts(groups: Sequence[Group]) -> tuple[str, ...]:
    """The prompts in order."""
    return tuple(text for group in groups for text in group.texts)


def noise(seed: int, steps: int, rows: int, vocabulary: int) -> Array:
    """The random numbers behind transformers' sampling after torch.manual_seed(seed), as Gumbel noise.

    float64 [steps, rows, vocabulary]. torch.multinomial draws one token of probabilities p as argmax(p / q) with q
    exponential, which is argmax(log p - log q).
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.empty(rows, vocabulary).exponential_(1, generator=generator) for _ in range(steps)]
    result: Array = -np.log(torch.stack(drawn).numpy().astype(np.float64))
    return result


def _text(reference: Reference, corpus: Corpus, length: int, place: int) -> str:
    """A text of about `length` tokens: runtimes that tokenize are given text, as their users give it."""
    ids = corpus.piece(length, PLACE + place).tolist()
    text: str = reference.tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    return text


def _ids(reference: Reference, text: str) -> Array:
    return np.asarray(reference.tokenizer(text, verbose=False)["input_ids"], np.int64)


def _pieces(text: str) -> list[str]:
    """Plain text, which uses the merges that hard strings do not: pieces spread over the whole of it."""
    spare = max(len(text) // PIECES, 1)
    return [text[start : start + PIECE] for start in range(0, len(text), spare)][:PIECES]


def _greedy(reference: Reference, texts: tuple[str, ...], new_tokens: int) -> Group:
    batch = left_padded([_ids(reference, text) for text in texts], reference.end or 0)
    tokens, logits = reference.greedy(batch.ids, batch.mask, new_tokens)
    return Group(texts, batch, tokens, logits, active(tokens, reference.ends))


def _sampled(reference: Reference, texts: tuple[str, ...], sampling: Sampling, seed: int, new_tokens: int) -> Group:
    """The texts continued together by transformers' own sampling, after torch.manual_seed(seed)."""
    batch = left_padded([_ids(reference, text) for text in texts], reference.end or 0)
    tokens, logits = reference.sampled(batch.ids, batch.mask, new_tokens, asdict(sampling), seed)
    return Group(texts, batch, tokens, logits, active(tokens, reference.ends))
