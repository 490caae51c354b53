"""Text that a model writes itself: drawn from its distribution, the same for one seed, kept for a later run."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from pipeline.errors import InputError, RecipeError
from pipeline.recipe.calibration import read_calibration
from quantize import sampling
from quantize.calibration import COUNTS
from quantize.runner import GraphRunner
from quantize.sampling import Draws, first_token, sampled
from tests.support.calibrated import calibration_of, make_context
from tests.support.tiny_graph import DIMS

DRAWS = Draws(rows=20, length=12, seed=3)


def generation(home: Path, **settings: object) -> None:
    (home / "generation_config.json").write_text(json.dumps(settings))


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    logits = np.log(np.array([[0.5, 0.25, 0.2, 0.05]], np.float32)) + 30
    drawn = sampling.drawn(np.repeat(logits, 1000, axis=0), (np.arange(1000) + 0.5) / 1000)
    assert np.bincount(drawn).tolist() == [500, 250, 200, 50]


@pytest.mark.parametrize("rows", [7, 16])
def test_each_token_is_drawn_after_those_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    graph = make_context(tmp_path).graph
    monkeypatch.setattr(sampling, "ROWS", rows)
    texts = sampled(graph, 5, DRAWS, None)
    assert texts.shape == (20, 12)
    assert (texts[:, 0] == 5).all()
    runner = GraphRunner(graph)
    for ids in texts:  # this model is nearly certain of each next token: one that follows other tokens is unlikely
        logits = runner.logits(ids, 12).astype(np.float64)[:-1]
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        assert (shares / shares.sum(axis=1, keepdims=True))[np.arange(11), ids[1:]].mean() > 0.8


def test_one_seed_gives_one_text_and_another_seed_another(tmp_path: Path) -> None:
    graph = make_context(tmp_path).graph
    texts = sampled(graph, 5, DRAWS, None)
    assert np.array_equal(texts, sampled(graph, 5, DRAWS, None))
    assert not np.array_equal(texts, sampled(graph, 5, replace(DRAWS, seed=4), None))


def test_a_later_run_finds_the_text_and_another_graph_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, work = make_context(tmp_path).graph, tmp_path / "work"
    texts = sampled(graph, 5, DRAWS, work)
    monkeypatch.setattr(sampling, "open_session", None)
    assert np.array_equal(texts, sampled(graph, 5, DRAWS, work))
    graph.write_bytes(graph.read_bytes() + b"\x00")
    with pytest.raises(TypeError):
        sampled(graph, 5, DRAWS, work)


def test_variants_that_are_quantized_side_by_side_write_one_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, work = make_context(tmp_path).graph, tmp_path / "work"
    written = Mock(wraps=sampling._written)
    monkeypatch.setattr(sampling, "_written", written)
    with ThreadPoolExecutor(4) as threads:
        first, *others = threads.map(lambda _: sampled(graph, 5, DRAWS, work), range(4))
    assert all(np.array_equal(first, other) for other in others)
    assert [path.suffix for path in sorted(work.iterdir())] == [".lock", ".npy"]
    assert written.call_count == 1


def test_texts_begin_with_the_token_of_a_beginning_or_of_an_end(tmp_path: Path) -> None:
    for settings, first in (
        ({"bos_token_id": 1, "eos_token_id": 2}, 1),
        ({"bos_token_id": None, "eos_token_id": 2}, 2),
        ({"eos_token_id": [3, 4]}, 3),
        ({"bos_token_id": 0, "eos_token_id": 2}, 0),
    ):
        generation(tmp_path, **settings)
        assert first_token(tmp_path, 10) == first
    generation(tmp_path, eos_token_id=None)
    with pytest.raises(InputError, match="no token to begin a text with"):
        first_token(tmp_path, 10)


def test_a_share_of_every_part_is_the_model_s_own(tmp_path: Path) -> None:
    generation(tmp_path, bos_token_id=5)
    calibration = replace(calibration_of(make_context(tmp_path)), sampled=0.5, work=tmp_path / "work")
    assert calibration._own.shape == (9, 16)
    object.__setattr__(calibration, "_own", np.arange(9 * 16).reshape(9, 16))  # this model's own are much alike
    parts = {part: calibration.pieces(part, count) for part, count in {"fit": 8, **COUNTS}.items()}
    assert [len(piece) for piece in parts.values()] == [8, 3, 6]
    own = [piece[len(piece) - share :] for piece, share in zip(parts.values(), (4, 2, 3), strict=True)]
    assert np.array_equal(np.concatenate(own).ravel(), np.arange(9 * 16))  # no part has a chunk of another's
    whole = replace(calibration, sampled=0.0)
    assert np.array_equal(parts["fit"][:4], whole.pieces("fit", 4))
    assert whole.record == {}
    record = calibration.record["sampled"]
    assert (record["chunks"], record["seed"], len(record["sha256"])) == (9, 0, 64)


def test_a_model_that_writes_all_of_it_needs_no_text(tmp_path: Path) -> None:
    generation(tmp_path, bos_token_id=5)
    calibration = replace(calibration_of(make_context(tmp_path)), sampled=1.0, paths=())
    assert calibration.pieces("fit", 8).shape == (8, DIMS.context // 2)
    assert read_calibration({"sampled": 1}, "x").names == ()
    with pytest.raises(RecipeError, match="no text"):
        read_calibration({"sampled": 0.5}, "x")


@pytest.mark.parametrize(
    "table", [{"text": "a", "sampled": 1.5}, {"text": "a", "sampled": -0.1}, {"text": "a", "seed": -1}]
)
def test_a_share_or_a_seed_that_cannot_be_is_refused(table: dict[str, object]) -> None:
    with pytest.raises(RecipeError, match="sampled or seed cannot be"):
        read_calibration(table, "x")
