"""Generated texts for people to read beside each other: what both sides share, and how each goes on from there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from verify.candidate.session import Candidate
from verify.check import Array, Case
from verify.scoring.decoding import CandidateDecoder

LAST_PROMPT = 40  # tokens of a prompt that the report shows
Choose = Callable[[Case, int, int, Array], int]  # the token of a row at a step, by logits float32 [vocabulary]


def rows_to_read(
    candidate: Candidate, case: Case, differing: Sequence[Mapping[str, Any]], choose: Choose
) -> list[dict[str, Any]]:
    """Token ids of the first row, and of the first row that differs, as they would be generated freely.

    Where every choice is the reference's the text is too. Where one is not, the candidate goes on alone from there: for
    people to read, for after that point it answers another prompt. One such row, because it costs a run of its own.
    """
    tokens, active, mask = (case.arrays[name] for name in ("tokens", "active", "mask"))
    first = min(differing, key=lambda entry: (entry["step"], entry["row"]), default=None)
    texts = []
    for row in sorted({0} if first is None else {0, first["row"]}):
        prompt = case.arrays["ids"][row][mask[row] == 1].tolist()
        wanted = tokens[row][active[row]].tolist()
        own = next((entry for entry in differing if entry["row"] == row), None)
        text = {"row": row, "prompt": prompt, "wanted": wanted, "own": wanted, "step": None, "margin": None}
        if own is not None and first is not None and row == first["row"]:
            text |= {"own": [*wanted[: own["step"]], own["token"]], "step": own["step"], "margin": own["margin"]}
            text["own"] = _continued(candidate, case, text, choose)
        if own is None or text["step"] is not None:
            texts.append(text)
    return texts


def parting(wanted: list[int], own: list[int]) -> int | None:
    """The first step at which two texts differ; None if they are the same."""
    if wanted == own:
        return None
    both = zip(wanted, own, strict=False)
    return next((step for step, (a, b) in enumerate(both) if a != b), min(len(wanted), len(own)))


def decoded(text: Mapping[str, Any], tokenizer: Any) -> dict[str, Any]:
    """One row as text. `step` is the first token that differs, None if none does: then all of it is shared.

    `margin` is by how much the reference preferred its own token there; of a beam search, which has no such step, None.
    """
    step = len(text["wanted"]) if text["step"] is None else text["step"]
    parts = {
        "prompt": text["prompt"][-LAST_PROMPT:],
        "shared": text["wanted"][:step],
        "reference": text["wanted"][step:],
        "candidate": text["own"][step:],
    }
    decoded = {name: tokenizer.decode(ids, clean_up_tokenization_spaces=False) for name, ids in parts.items()}
    return {**{name: text[name] for name in ("row", "step", "margin")}, "tokens": len(text["wanted"]), **decoded}


def _continued(candidate: Candidate, case: Case, begun: Mapping[str, Any], choose: Choose) -> list[int]:
    """The candidate's own text of one row, from the tokens it has begun with to the end token or the last step."""
    tokens = [*begun["own"]]
    decoder = CandidateDecoder(candidate)
    ids = np.asarray([[*begun["prompt"], *tokens]], np.int64)
    logits = None
    while len(tokens) < case.arrays["tokens"].shape[1] and tokens[-1] not in case.facts["ends"]:
        if logits is None:
            logits = decoder.start(ids, np.ones_like(ids))
        else:
            logits = decoder.advance(np.asarray(tokens[-1:], np.int64), np.zeros(1, np.int64))
        tokens.append(choose(case, begun["row"], len(tokens), logits[0]))
    return tokens
