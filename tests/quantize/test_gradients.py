"""Gradients of the model's own likelihood: what they are, and what a layer's error counts by them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.contract import Dimensions
from model.pytorch import load
from pipeline.canonical import canonical_json
from pipeline.errors import InputError
from pipeline.recipe.calibration import read_calibration
from pipeline.variants import model_file
from quantize import gradients
from quantize.blockwise import Choice
from quantize.calibration import Calibration, Moments
from quantize.gradients import GradientSource, gradient_moments
from quantize.numerics.blocks import Floats, Form, dequantize
from quantize.rewrite.weights import find_weights
from quantize.sampling import drawn
from quantize.schemes import gptq, kquant, rtn
from quantize.search.journal import Journal
from quantize.search.sensitivity import Probe, _base
from tests.conftest import Stage
from tests.support.calibrated import calibration_of, make_context
from tests.support.reconvert_jobs import write_recipe
from tests.support.tiny_checkpoints import write_checkpoint

NAME = "transformer.h.0.mlp.c_fc"
TEXTS = np.random.default_rng(1).integers(0, 50, (4, 12))


@pytest.fixture
def checkpoint(tmp_path: Path) -> GradientSource:
    return GradientSource(write_checkpoint(tmp_path / "checkpoint"), allow_pickle=False, seed=3)


def matrix_of(checkpoint: GradientSource) -> Floats:
    model, _ = load(checkpoint.directory, allow_pickle=False)
    weight: Floats = model.get_submodule(NAME).weight.detach().numpy().T.copy()
    return weight


def test_they_are_those_of_the_likelihood_of_drawn_tokens(checkpoint: GradientSource) -> None:
    found = gradient_moments(checkpoint, {f"{NAME}.weight": matrix_of(checkpoint)}, TEXTS)
    model, _ = load(checkpoint.directory, allow_pickle=False)
    kept: dict[str, torch.Tensor] = {}

    def keep(name: str, output: torch.Tensor) -> None:
        output.retain_grad()
        kept[name] = output

    model.get_submodule(NAME).register_forward_hook(lambda _module, _inputs, output: keep("layer", output))
    model.get_input_embeddings().register_forward_hook(lambda _module, _inputs, output: keep("embedding", output))
    sums: dict[str, Any] = {"layer": 0, "embedding": 0, "logits": 0}
    for number, ids in enumerate(TEXTS[::2]):
        logits = model(torch.from_numpy(ids[None])).logits[0]
        shares = np.random.default_rng([3, number]).random(len(ids))
        tokens = torch.from_numpy(drawn(logits.detach().numpy(), shares))
        (-logits.log_softmax(-1)[torch.arange(len(ids)), tokens].sum()).backward()
        likely = logits.detach().softmax(-1)
        curvature = torch.diag_embed(likely) - likely[:, :, None] * likely[:, None]
        sums["logits"] += float(torch.diagonal(curvature, dim1=1, dim2=2).sum())
        for name, output in kept.items():
            assert output.grad is not None
            sums[name] += (output.grad[0].T @ output.grad[0]).numpy()
    for name, moments in (("layer", found.layers[f"{NAME}.weight"]), ("embedding", found.embedding)):
        mean = sums[name] / TEXTS[::2].size
        assert np.abs(mean).max() > 0
        np.testing.assert_allclose(moments, mean, rtol=1e-3, atol=1e-5 * np.abs(mean).max())
    assert found.logits == pytest.approx(sums["logits"] / TEXTS[::2].size, rel=1e-4)


def test_they_are_the_same_every_time_and_others_with_another_seed(checkpoint: GradientSource) -> None:
    matrices = {f"{NAME}.weight": matrix_of(checkpoint)}
    other = GradientSource(checkpoint.directory, allow_pickle=False, seed=4)
    first, second, third = (gradient_moments(own, matrices, TEXTS) for own in (checkpoint, checkpoint, other))
    assert np.array_equal(first.layers[f"{NAME}.weight"], second.layers[f"{NAME}.weight"])
    assert np.array_equal(first.embedding, second.embedding)
    assert not np.array_equal(first.layers[f"{NAME}.weight"], third.layers[f"{NAME}.weight"])
    assert not np.array_equal(first.embedding, third.embedding)


def test_a_checkpoint_of_other_layers_is_refused(checkpoint: GradientSource) -> None:
    matrix = matrix_of(checkpoint)
    with pytest.raises(InputError, match="no layer of the checkpoint"):
        gradient_moments(checkpoint, {"another.weight": matrix}, TEXTS)
    with pytest.raises(InputError, match="in another order"):
        gradient_moments(checkpoint, {f"{NAME}.weight": matrix[::-1].copy()}, TEXTS)


def second_moments(random: np.random.Generator, size: int) -> Floats:
    inputs = random.normal(size=(3 * size, size)) @ random.normal(size=(size, size))
    return np.asarray(inputs.T @ inputs / len(inputs), np.float32)


@given(seed=st.integers(0, 20), bits=st.sampled_from([2, 4]), symmetric=st.booleans())
def test_the_error_that_counts_is_smaller_with_them(seed: int, bits: int, symmetric: bool) -> None:
    random = np.random.default_rng(seed)
    matrix = random.normal(size=(40, 64)).astype(np.float32)
    inputs, outputs = second_moments(random, 64), second_moments(random, 40)
    form = Form(bits, 32, symmetric)

    def error(moments: Moments) -> float:
        lost = dequantize(gptq.solve(matrix, form, moments)) - matrix
        return float(np.sum((outputs @ lost @ inputs) * lost))

    plain = Moments(inputs, np.zeros(64, np.float32), lookups=False)
    weighed = Moments(inputs, np.zeros(64, np.float32), lookups=False, output=outputs)
    assert error(weighed) < error(plain)
    lost = dequantize(gptq.solve(matrix, form, weighed)) - matrix
    assert weighed.weight_error(lost) == pytest.approx(error(weighed), rel=1e-4)
    assert plain.weight_error(lost) == pytest.approx(float(np.sum((lost @ inputs) * lost)), rel=1e-4)


@given(seed=st.integers(0, 20), bits=st.sampled_from([4, 6]))
def test_a_tables_rows_are_good_for_lookups_and_for_the_head(seed: int, bits: int) -> None:
    random = np.random.default_rng(seed)
    matrix = random.normal(size=(40, 64)).astype(np.float32)
    inputs, lookup = second_moments(random, 64), second_moments(random, 64)
    form = Form(bits, 32, symmetric=True)

    def error(moments: Moments) -> float:
        lost = dequantize(gptq.solve(matrix, form, moments)) - matrix
        return float(np.sum((lost @ (inputs + lookup)) * lost))

    plain = Moments(inputs, np.zeros(64, np.float32), lookups=True)
    weighed = Moments(inputs, np.zeros(64, np.float32), lookups=True, picked=lookup)
    assert error(weighed) < error(plain)


def test_where_lookups_are_known_of_nothing_stands_for_them() -> None:
    random = np.random.default_rng(0)
    matrix = random.normal(size=(40, 64)).astype(np.float32)
    plain = Moments(second_moments(random, 64), np.zeros(64, np.float32), lookups=True)
    weighed = replace(plain, picked=second_moments(random, 64))
    form = Form(4, 32, symmetric=True)
    for moments, same in ((plain, False), (weighed, True)):
        less, more = (gptq.solve(matrix, form, moments, gptq.Options(4, embedding_damping=d)) for d in (0.01, 10))
        assert np.array_equal(less.codes, more.codes) == same
    without, with_them = (kquant.solve(matrix, form, moments).codes for moments in (plain, weighed))
    assert not np.array_equal(without, with_them)


def test_auto_weighs_errors_by_them(tmp_path: Path) -> None:
    context = make_context(tmp_path)
    weight = find_weights(ir.load(context.graph), context.dims).body[0]
    known = calibration_of(context).moments
    outputs = second_moments(np.random.default_rng(0), weight.shape[0])
    known[weight.stem] = replace(known[weight.stem], output=outputs)
    choice = Choice("rtn", Form(4, 32, symmetric=True), level=4)
    found = Probe(context, Journal(tmp_path / "journal"))._errors(weight, choice)
    lost = dequantize(rtn.solve(weight.matrix(), choice.form)) - weight.matrix()
    assert found["weight"] == pytest.approx(np.sum((outputs @ lost @ known[weight.stem].second) * lost), rel=1e-3)
    assert found["input"] == pytest.approx(known[weight.stem].input_error(weight.matrix(), 32), rel=1e-3)


def test_rounding_of_inputs_counts_by_what_it_moves() -> None:
    random = np.random.default_rng(0)
    matrix, outputs = random.normal(size=(40, 64)).astype(np.float32), second_moments(random, 40)
    peaks = {32: np.array([3.0, 5.0], np.float32)}
    moments = Moments(
        np.eye(64, dtype=np.float32), np.zeros(64, np.float32), lookups=False, peaks=peaks, output=outputs
    )
    steps = np.sqrt(np.repeat(peaks[32], 32)) / 127
    drawn_at_random = random.uniform(-0.5, 0.5, (100_000, 64)) * steps
    moved = drawn_at_random @ matrix.T
    assert moments.input_error(matrix, 32) == pytest.approx(float(np.mean((moved @ outputs * moved).sum(1))), rel=0.02)


def test_a_tables_moments_know_its_lookups(tmp_path: Path, stage: Stage) -> None:
    """The head's second moments, and in the unit of these what gradients say of embeddings."""
    write_checkpoint(tmp_path / "checkpoint")
    source = f'repository = "someone/tiny"\npath = "{tmp_path}/checkpoint"'
    recipe = write_recipe(tmp_path, "tiny", source, {})
    stage("convert", recipe, "--build", tmp_path / "build")
    fp32 = tmp_path / "build" / "tiny" / "fp32"
    dims = Dimensions(**json.loads((fp32 / "manifest.json").read_text())["facts"]["dimensions"])
    graph, words = fp32 / model_file("fp32"), fp32 / "tokenizer.json"
    checkpoint = GradientSource(tmp_path / "checkpoint", allow_pickle=False, seed=0)
    plain = Calibration((tmp_path / "text.txt",), graph, words, dims, chunk=16, chunks=4)
    weighed = replace(plain, checkpoint=checkpoint)
    found = gradient_moments(checkpoint, {}, weighed.pieces("fit", 4))
    (name,) = [name for name, moments in plain.moments.items() if moments.lookups]
    table = weighed.moments[name]
    assert np.array_equal(plain.moments[name].rows, table.second)
    assert table.output is None
    np.testing.assert_allclose(table.rows - table.second, found.embedding / found.logits, atol=1e-5 * table.rows.max())
    assert all(moments.output is not None for stem, moments in weighed.moments.items() if stem != name)


def test_variants_are_made_with_them_and_refused_without_the_source(tmp_path: Path, stage: Stage) -> None:
    write_checkpoint(tmp_path / "checkpoint")
    source = f'repository = "someone/tiny"\npath = "{tmp_path}/checkpoint"'
    recipe = write_recipe(tmp_path, "tiny", source, {"q4": '[{ scheme = "gptq", bits = 4, block = 16 }]'})
    plain = f'{recipe.read_text()}[calibration]\ntext = "text.txt"\nchunk = 16\nchunks = 4\n'
    build = tmp_path / "build"
    recipe.write_text(plain)
    stage("convert", recipe, "--build", build)
    stage("quantize", recipe, "--build", build)
    graph = build / "tiny" / "q4" / model_file("q4")
    before = graph.read_bytes()
    recipe.write_text(f"{plain}gradients = true\n")
    stage("quantize", recipe, "--build", build)
    assert graph.read_bytes() != before
    assert "q4: unchanged" in stage("quantize", recipe, "--build", build).stderr
    kept = (build / "tiny" / "source").rename(tmp_path / "kept")
    recipe.write_text(f"{plain}gradients = true\nseed = 1\n")
    assert "python -m convert" in stage("quantize", recipe, "--build", build, code=3).stderr
    manifest = json.loads((kept / "manifest.json").read_text())
    (kept / "manifest.json").write_bytes(canonical_json({**manifest, "code": "another"}) + b"\n")
    kept.rename(build / "tiny" / "source")
    told = stage("quantize", recipe, "--build", build, code=3).stderr
    assert "was made from another source" in told


def test_only_what_is_drawn_for_decides_a_variant() -> None:
    assert read_calibration({"text": "a", "seed": 5}, "x").decisive == {"text": "a", "chunk": 512, "chunks": 32}
    drawn_for = read_calibration({"text": "a", "seed": 5, "gradients": True}, "x").decisive
    assert drawn_for == {"text": "a", "chunk": 512, "chunks": 32, "gradients": True, "seed": 5}


def test_a_model_of_too_many_outputs_is_refused(checkpoint: GradientSource, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = matrix_of(checkpoint)
    monkeypatch.setattr(gradients, "LARGEST", 2 * 4 * len(matrix) ** 2 - 1)
    with pytest.raises(InputError, match="would take"):
        gradient_moments(checkpoint, {f"{NAME}.weight": matrix}, TEXTS)


def test_what_was_measured_without_them_is_measured_anew(tmp_path: Path) -> None:
    context = make_context(tmp_path)
    calibration = calibration_of(context)
    keys = {
        _base(replace(context, calibration=replace(calibration, checkpoint=own)))
        for own in (
            None,
            GradientSource(tmp_path, allow_pickle=False, seed=0),
            GradientSource(tmp_path, allow_pickle=False, seed=1),
        )
    }
    assert len(keys) == 3
