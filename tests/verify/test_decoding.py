"""Decoding against transformers' own: the candidate's side must choose what a user's generate() chooses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from tests.conftest import ROOT
from verify.reference.corpus import Corpus
from verify.reference.model import Reference
from verify.scoring.decoding import (
    ReferenceDecoder,
    Sampling,
    beam_search,
    draw,
    draw_margin,
    keep,
    likeliest,
    log_softmax,
    sequence_score,
)

TEXT = ROOT / "recipes" / "text" / "inaugural_heldout.txt"


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference(ROOT / "recipes" / "embedded", allow_pickle=False)


@given(st.lists(st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 2.0, np.inf, np.nan]), min_size=1), st.integers(1, 40))
def test_the_likeliest_are_the_first_of_a_stable_sort(values: list[float], count: int) -> None:
    found = likeliest(np.asarray(values, np.float32), count)
    assert found.tolist() == np.argsort(-np.asarray(values, np.float32), kind="stable")[:count].tolist()


@given(st.integers(0, 10_000), st.floats(0.3, 2), st.floats(0.05, 1), st.integers(1, 300))
def test_kept_tokens_are_those_of_transformers(seed: int, temperature: float, top_p: float, top_k: int) -> None:
    logits = (np.random.default_rng(seed).normal(size=200) * 4).astype(np.float32)
    scores = torch.from_numpy(logits)[None]
    for warper in (TemperatureLogitsWarper(temperature), TopKLogitsWarper(min(top_k, 200)), TopPLogitsWarper(top_p)):
        scores = warper(torch.zeros((1, 1), dtype=torch.long), scores)
    wanted = torch.isfinite(scores)[0].numpy()
    kept = keep(logits, Sampling(temperature, top_p, top_k))
    differing = np.flatnonzero(kept.mask != wanted)
    assert (kept.edge[differing] < 1e-5).all()  # float32 and float64 may part only at the very edge


@pytest.mark.parametrize("place", range(6))
def test_beam_search_is_that_of_transformers(reference: Reference, place: int) -> None:
    ids = Corpus(TEXT, reference.tokenizer, seed=5).piece(6 + place, place)
    wanted = reference.model.generate(
        torch.from_numpy(ids)[None],
        attention_mask=torch.ones((1, len(ids)), dtype=torch.long),
        num_beams=4,
        do_sample=False,
        max_new_tokens=20,
        pad_token_id=reference.end,
        return_dict_in_generate=True,
        output_scores=True,
    )
    found = beam_search(ReferenceDecoder(reference), ids, beams=4, new_tokens=20, ends=reference.ends)
    expected = wanted.sequences[0, len(ids) :].tolist()
    while len(expected) > 1 and expected[-1] == reference.end and expected[-2] == reference.end:
        expected.pop()
    assert found.tokens == expected
    assert found.score == pytest.approx(float(wanted.sequences_scores[0]), abs=1e-4)
    assert sequence_score(ReferenceDecoder(reference), ids, found.tokens) == pytest.approx(found.score, abs=1e-5)
    assert found.lead >= 0


def test_beam_search_ends_texts_at_the_end_token() -> None:
    class Certain:
        """Token 1, then the end (token 2), whatever else."""

        def start(self, _ids: np.ndarray, _mask: np.ndarray) -> np.ndarray:
            return np.array([[0, 9, 0, 0]], np.float32)

        def advance(self, _tokens: np.ndarray, rows: np.ndarray) -> np.ndarray:
            return np.array([[0, 0, 9, 0]] * len(rows), np.float32)

    found = beam_search(Certain(), np.array([3]), beams=2, new_tokens=9, ends=(2,))
    assert found.tokens == [1, 2]
    assert found.score == pytest.approx(2 * log_softmax(np.array([0, 0, 9, 0]))[2] / 2)


@pytest.mark.parametrize("edge", [0.1, 0.2])
def test_lead_is_the_error_at_which_the_beam_drops_its_result(edge: float) -> None:
    """Tokens 1 and 2 are kept, 3 is dropped; what 2 leads to is best. It leads 3 by `edge` in the first logits."""

    class Narrow:
        def start(self, _ids: np.ndarray, _mask: np.ndarray) -> np.ndarray:
            return np.array([[-9, 5, 4, 4 - edge, -9]], np.float32)

        def advance(self, tokens: np.ndarray, _rows: np.ndarray) -> np.ndarray:
            certain, torn = [9.0, 0, 0, 0, 0], [0.0] * 5
            return np.array([certain if token in (0, 2) else torn for token in tokens], np.float32)

    found = beam_search(Narrow(), np.array([3]), beams=2, new_tokens=4, ends=())
    assert found.tokens == [2, 0, 0, 0]
    assert found.lead == pytest.approx(edge / 2, rel=1e-5)


def test_draws_follow_the_distribution() -> None:
    logits = np.log(np.array([0.5, 0.3, 0.2], np.float32))
    rng = np.random.default_rng(0)
    plain = Sampling(temperature=1, top_p=1, top_k=3)
    counts = np.bincount([draw(logits, rng.gumbel(size=3), plain) for _ in range(4000)], minlength=3) / 4000
    np.testing.assert_allclose(counts, [0.5, 0.3, 0.2], atol=0.03)


@pytest.mark.parametrize("size", [0.001, 0.01, 0.05, 0.5])
def test_a_small_error_never_explains_less_than_the_margin(size: float) -> None:
    """If logits off by at most `size` draw another token, the margin reported is of that order: a near tie is found."""
    rng, sampling, margins = np.random.default_rng(0), Sampling(), []
    for _ in range(4000):
        logits = (rng.normal(size=50) * 2).astype(np.float32)
        other = (logits + rng.uniform(-size, size, 50)).astype(np.float32)
        noise = rng.gumbel(size=50)
        if draw(logits, noise, sampling) != draw(other, noise, sampling):
            margins.append(draw_margin(logits, other, noise, sampling))
    assert margins
    assert max(margins) <= 2 * size + 1e-5
