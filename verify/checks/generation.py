"""generation: would users get the reference's text? Greedy, sampled with the same random numbers, and beam search.

Greedy and sampled text are scored along the reference's own text: after a first divergence a free run compares two
different prompts, which says nothing. A candidate that agrees at every step generates the identical text.
A choice that differs is a near tie if the reference itself was undecided within the largest logit error that the check
`logits` observed for this candidate; any other difference is a mismatch, and none is allowed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from verify.candidate.input import Input, fed
from verify.candidate.session import Candidate
from verify.check import Array, Case, Ease, Explaining, Measure, Partial, Prompt, Prompting
from verify.scoring import near_ties
from verify.scoring.decoding import (
    CandidateDecoder,
    ReferenceDecoder,
    Sampling,
    active,
    beam_search,
    draw,
    draw_margin,
    follow,
    sequence_score,
)
from verify.scoring.near_ties import Difference, margin
from verify.scoring.samples import decoded, parting, rows_to_read
from verify.settings import require_lengths, require_positive

if TYPE_CHECKING:  # torch takes seconds to load
    from verify.reference.model import Reference

NEEDS = ("logits",)
PER_LEVEL = False  # choices made of logits; what a level may change in these, `logits` and `cache` see at every step
TOLERATED = {"greedy_near_ties": "max", "sampling_near_ties": "max", "beam_near_ties": "max"}
JUDGES = "graph"
SEEDED = True
# Shares of near ties need some hundred steps: 30 tokens of 4 prompts.
BRIEF: Mapping[str, Any] = {"new_tokens": 30, "beam_prompts": 1, "beam_tokens": 6}


@dataclass(frozen=True)
class Settings:
    """Prompt lengths of a left-padded batch, tokens to generate, and the parameters of sampling and beam search."""

    prompts: tuple[int, ...] = (12, 4, 20, 7)
    new_tokens: int = 40
    last_tokens: int = 4  # greedy tokens that end exactly at the context limit
    temperature: float = 0.8
    top_p: float = 0.9
    top_k: int = 50
    beams: int = 4
    beam_prompts: int = 2
    beam_tokens: int = 16

    def check(self, where: str, context: int) -> None:
        """RecipeError for numbers that cannot be, or text that would leave the context."""
        require_lengths(self.prompts, f"{where}: prompts", context)
        longest = max(self.prompts)
        require_lengths((self.new_tokens, self.beam_tokens), f"{where}: new_tokens, beam_tokens", context - longest)
        require_lengths((self.last_tokens,), f"{where}: last_tokens", context - 1)
        for name in ("temperature", "top_p", "top_k", "beams", "beam_prompts"):
            require_positive(getattr(self, name), f"{where}: {name}")


def cases(reference: Reference, corpus: Any, settings: Settings) -> Iterator[Case]:
    """Greedy batch, greedy up to the context limit, sampling, and beam searches, with the reference's choices."""
    context = reference.context
    pad = reference.end or 0
    batch = corpus.batch(settings.prompts, 300, pad)
    yield _greedy("greedy batch", reference, batch.ids, batch.mask, settings.new_tokens)
    edge = corpus.batch((context - settings.last_tokens,), 310, pad)
    yield _greedy("greedy to the context limit", reference, edge.ids, edge.mask, settings.last_tokens)
    yield _sampled(reference, batch.ids, batch.mask, settings, corpus.seed)
    for number in range(settings.beam_prompts):
        ids = corpus.piece(settings.prompts[number % len(settings.prompts)], 320 + number)
        options: dict[str, Any] = {"beams": settings.beams, "new_tokens": settings.beam_tokens, "ends": reference.ends}
        found = beam_search(ReferenceDecoder(reference), ids, **options)
        facts = {"kind": "beam", "options": options, "tokens": found.tokens, "score": found.score, "lead": found.lead}
        yield Case(f"beam {number}", {"ids": ids}, facts)


def judge(candidate: Candidate, case: Case) -> Partial:
    """Steps at which the candidate chooses another token, with the margin by which the reference chose its own."""
    if case.facts["kind"] == "beam":
        found = beam_search(CandidateDecoder(candidate), np.asarray(case.arrays["ids"]), **case.facts["options"])
        ids = case.arrays["ids"].tolist()
        return {"kind": "beam", "case": case.name, "ids": ids, "tokens": found.tokens, "wanted": case.facts}
    text, logits = case.arrays["tokens"], case.arrays["logits"]
    active = case.arrays["active"]
    differing: list[dict[str, Any]] = []

    def visit(step: int, found: Array) -> None:
        if not np.isfinite(found).all():
            raise ValueError(f"logits are not finite at step {step} of {case.name}")
        for row in np.flatnonzero(active[:, step]):
            difference = _difference(case, int(row), step, found[row], logits[row, step])
            if difference is not None:
                differing.append({"case": case.name, "row": int(row), "step": step, **difference})

    follow(CandidateDecoder(candidate), case.arrays["ids"], case.arrays["mask"], text, visit)
    texts = rows_to_read(candidate, case, differing, _choice)
    return {
        "kind": case.facts["kind"],
        "case": case.name,
        "differing": differing,
        "steps": int(active.sum()),
        "texts": texts,
    }


def summarize(partials: list[Partial], observed: dict[str, float], reference: Reference) -> list[Measure]:
    """For each way to generate: differences that no near tie explains, and the share of near ties."""
    error = observed["logits.max_abs"]
    measures = []
    for kind in ("greedy", "sampling"):
        parts = [partial for partial in partials if partial["kind"] == kind]
        steps = sum(partial["steps"] for partial in parts)
        differing = [entry for partial in parts for entry in partial["differing"]]
        measures += _measures(kind, differing, steps, error, "steps")
    beams = [partial for partial in partials if partial["kind"] == "beam"]
    return [*measures, *_measures("beam", _beam_differences(partials, reference), len(beams), error, "searches")]


def series(partials: list[Partial], observed: dict[str, float], reference: Reference) -> dict[str, Any]:
    """Margins of all choices that differ, and texts of both sides: what they share, and how each goes on from there."""
    choices, texts = [], []
    for partial in partials:
        if partial["kind"] == "beam":
            wanted, own = partial["wanted"]["tokens"], partial["tokens"]
            step = parting(wanted, own)
            found = [{"row": 0, "prompt": partial["ids"], "wanted": wanted, "own": own, "step": step, "margin": None}]
        else:
            choices += [{"kind": partial["kind"], "margin": entry["margin"]} for entry in partial["differing"]]
            found = partial["texts"]
        texts += [{"case": partial["case"], **decoded(text, reference.tokenizer)} for text in found]
    choices += [{"kind": "beam", "margin": entry["margin"]} for entry in _beam_differences(partials, reference)]
    return {"near_ties": {"limit": observed["logits.max_abs"], "choices": choices}, "texts": texts}


def _choice(case: Case, row: int, step: int, logits: Array) -> int:
    """The token that logits float32 [vocabulary] lead to, by the case's way of generation."""
    if case.facts["kind"] == "greedy":
        return int(logits.argmax())
    noise = _noise(case.facts["seed"], row, step, len(logits))
    return draw(logits, noise, Sampling(**case.facts["sampling"]))


def _measures(kind: str, differing: list[dict[str, Any]], count: int, error: float, unit: str) -> list[Measure]:
    places = [Difference(f"{e['case']} row {e['row']} step {e['step']}", e["margin"]) for e in differing]
    return near_ties.measures(kind, places, count, unit, ("observed error", error))


def _beam_differences(partials: list[Partial], reference: Reference) -> list[dict[str, Any]]:
    """The searches that ended in another text. The margin runs the reference, so it is kept with the partial result."""
    differing = [p for p in partials if p["kind"] == "beam" and p["tokens"] != p["wanted"]["tokens"]]
    for partial in differing:
        if "difference" not in partial:
            partial["difference"] = _beam_difference(partial, reference)
    return [partial["difference"] for partial in differing]


def _beam_difference(partial: Partial, reference: Reference) -> dict[str, Any]:
    """The least error of logits that explains another result than the reference's.

    Either it reversed the two at the end: half the difference of their mean log-probabilities, because an error of e in
    every logit moves one by up to 2e. Or it dropped the reference's result from the beam on the way, after which the
    search cannot come back to it, however much better it would have become: the least lead that it had there.
    """
    score = sequence_score(ReferenceDecoder(reference), np.asarray(partial["ids"]), partial["tokens"])
    step = parting(partial["wanted"]["tokens"], partial["tokens"]) or 0
    margin = min((partial["wanted"]["score"] - score) / 2, partial["wanted"]["lead"])
    return {"case": partial["case"], "row": 0, "step": step, "margin": margin}


def _difference(case: Case, row: int, step: int, found: Array, wanted: Array) -> dict[str, Any] | None:
    token = _choice(case, row, step, found)
    if token == int(case.arrays["tokens"][row, step]):
        return None
    if case.facts["kind"] == "greedy":
        return {"margin": margin(wanted, token), "token": token}
    sampling, noise = Sampling(**case.facts["sampling"]), _noise(case.facts["seed"], row, step, len(found))
    return {"margin": draw_margin(wanted, found, noise, sampling), "token": token}


def _greedy(name: str, reference: Reference, ids: Array, mask: Array, new_tokens: int) -> Case:
    tokens, logits = reference.greedy(ids, mask, new_tokens)
    arrays = {"ids": ids, "mask": mask, "tokens": tokens, "logits": logits, "active": active(tokens, reference.ends)}
    return Case(name, arrays, {"kind": "greedy", "ends": reference.ends})


def _sampled(reference: Reference, ids: Array, mask: Array, settings: Settings, seed: int) -> Case:
    sampling = Sampling(settings.temperature, settings.top_p, settings.top_k)
    decoder = ReferenceDecoder(reference)
    logits = decoder.start(ids, mask)
    rows = np.arange(len(ids))
    chosen, seen = [], []
    for step in range(settings.new_tokens):
        tokens = np.asarray([draw(logits[r], _noise(seed, int(r), step, logits.shape[1]), sampling) for r in rows])
        chosen.append(tokens)
        seen.append(logits)
        if step + 1 < settings.new_tokens:
            logits = decoder.advance(tokens, rows)
    text = np.stack(chosen, axis=1)
    arrays = {"ids": ids, "mask": mask, "tokens": text, "logits": np.stack(seen, axis=1)}
    facts = {"kind": "sampling", "seed": seed, "sampling": vars(sampling), "ends": reference.ends}
    return Case("sampling", {**arrays, "active": active(text, reference.ends)}, facts)


def _noise(seed: int, row: int, step: int, size: int) -> Array:
    """The random numbers of one draw, the same for both sides: Gumbel, float64 [vocabulary]."""
    return np.random.default_rng([seed, row, step]).gumbel(size=size)


def _inputs(case: Case) -> Iterator[tuple[str, Input]]:
    """The prompt in one call, then the reference's tokens one by one, as the text was made."""
    prompt, known = fed(case), case.arrays.get("tokens")
    tokens = np.atleast_2d(np.asarray(case.facts["tokens"] if known is None else known, np.int64))[:, :-1]
    ids = np.concatenate([prompt.ids, tokens], axis=1)
    mask = np.concatenate([prompt.mask, np.ones_like(tokens)], axis=1)
    yield "", Input(ids, mask, (prompt.ids.shape[1], *[1] * tokens.shape[1]))


EXPLAINING: Explaining | None = Explaining(
    measures=dict.fromkeys(TOLERATED, Ease.TEXT), inputs=_inputs, by=("cache", "logits")
)


def _asked(reference: Reference, prompts: Sequence[Prompt], settings: Settings) -> Iterator[Case]:
    """The reference's greedy answer to each prompt, as far as the context reaches."""
    for prompt in prompts:
        room = min(settings.new_tokens, reference.dimensions.context - len(prompt.ids))
        yield _greedy(prompt.name, reference, prompt.ids[None], np.ones((1, len(prompt.ids)), np.int64), room)


PROMPTING: Prompting | None = Prompting(
    cases=_asked, summarize=summarize, figures=("greedy_mismatch",), averages=("greedy_near_ties",)
)
