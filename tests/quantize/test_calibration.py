"""Calibration and what rests on it, on a tiny model with a tokenizer of one token for each number."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from model.divergence import divergences
from pipeline import plugins
from pipeline.errors import InputError, RecipeError
from quantize.blockwise import Choice, solve
from quantize.numerics.blocks import SIZES, Form, dequantize
from quantize.rewrite.graph import clean
from quantize.rewrite.weights import find_weights
from quantize.runner import GraphRunner
from quantize.scheme import FOLDER, Context, module, read_step
from quantize.search.sensitivity import Slot, measure, size
from tests.support.calibrated import calibration_of, make_context, write_text, write_tokenizer
from tests.support.tiny_graph import Array, session


@pytest.mark.parametrize("name", plugins.names(FOLDER))
def test_every_scheme_says_whether_it_can_use_calibration(name: str) -> None:
    assert plugins.constant(FOLDER, name, "CALIBRATED", bool) is module(name).CALIBRATED


def test_moments_are_those_of_the_products_inputs(tmp_path: Path) -> None:
    context = make_context(tmp_path)
    calibration = calibration_of(context)
    found = calibration.moments
    assert found.keys() == {w.stem for w in all_weights(context) if w.products}
    assert [stem for stem, moments in found.items() if moments.lookups] == ["wte.weight"]
    model = onnx.load(tmp_path / "model.onnx")
    node = next(node for node in model.graph.node if "h.1.out.weight" in node.input)
    model.graph.output.append(onnx.helper.make_tensor_value_info(node.input[0], onnx.TensorProto.FLOAT, None))
    runner = GraphRunner(ir.from_proto(model))
    inputs = np.concatenate([runner.run([node.input[0]], ids)[0][0] for ids in calibration.pieces("fit", 8)])
    moments = found["h.1.out.weight"]
    np.testing.assert_allclose(moments.second, inputs.T @ inputs / len(inputs), rtol=1e-4, atol=1e-5)
    peaks = np.square(np.abs(inputs).reshape(len(inputs), -1, 32).max(axis=2)).mean(axis=0)
    np.testing.assert_allclose(moments.peaks[32], peaks, rtol=1e-4)
    assert moments.peaks.keys() == set(SIZES)
    np.testing.assert_allclose(moments.rounding(32)[:32], peaks[0] / 127**2 / 12, rtol=1e-4)


def all_weights(context: Context) -> list[Any]:
    weights = find_weights(ir.load(context.graph), context.dims)
    return [*weights.body, *weights.tables, *weights.lookups]


def test_the_parts_of_the_text_do_not_overlap(tmp_path: Path) -> None:
    calibration = calibration_of(make_context(tmp_path))
    assert len(calibration.ids) == 1200
    object.__setattr__(calibration, "ids", np.arange(1200))
    parts = {part: calibration.pieces(part, count) for part, count in (("fit", 20), ("measure", 3), ("judge", 6))}
    assert [piece.shape for piece in parts.values()] == [(20, 16), (3, 16), (6, 16)]
    seen = np.concatenate([piece.ravel() for piece in parts.values()])
    assert len(np.unique(seen)) == len(seen)
    assert (np.diff(seen) > 0).all()


@pytest.mark.parametrize(
    ("changes", "tokens", "what", "where"),
    [
        ({"chunk": 33}, 1200, "chunks of 33 tokens", "calibration: chunk"),
        ({"chunks": 61}, 1200, "960 tokens to fit with, 976 are needed", "text.txt"),
        ({"paths": (Path("/nowhere.txt"),)}, 1200, "text cannot be read", "/nowhere.txt"),
    ],
)
def test_text_and_chunks_that_cannot_be_are_refused(
    tmp_path: Path, changes: dict[str, Any], tokens: int, what: str, where: str
) -> None:
    calibration = replace(calibration_of(make_context(tmp_path, tokens=tokens)), **changes)
    with pytest.raises(RecipeError, match=what) as refusal:
        calibration.pieces("fit", calibration.chunks)
    assert refusal.value.where.endswith(where)


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    calibration = calibration_of(make_context(tmp_path))
    write_text(calibration.paths[0], 1200, 90)
    write_tokenizer(calibration.tokenizer, 90)
    with pytest.raises(InputError, match="beyond the vocabulary"):
        _ = calibration.ids
    calibration.tokenizer.write_text("{}")
    with pytest.raises(InputError, match="no tokenizer"):
        _ = calibration.ids


def test_divergences_are_those_of_the_definition_and_infinite_without_a_distribution() -> None:
    generator = np.random.default_rng(0)
    a, b = generator.standard_normal((2, 70, 40)).astype(np.float32) * 3

    def log_softmax(x: Array) -> Array:
        wide = x.astype(np.float64)
        result: Array = wide - np.log(np.exp(wide).sum(axis=1, keepdims=True))
        return result

    p, q = log_softmax(a), log_softmax(b)
    np.testing.assert_allclose(divergences(a, b), (np.exp(p) * (p - q)).sum(axis=1), rtol=1e-5)
    np.testing.assert_allclose(divergences(a, a + 7), 0, atol=1e-9)
    b[3, 3] = np.nan
    assert np.flatnonzero(np.isinf(divergences(a, b))).tolist() == [3]


def test_gptq_on_its_inputs_beats_rounding_in_the_logits(tmp_path: Path) -> None:
    context = make_context(tmp_path)
    pieces = calibration_of(context).pieces("judge", 6)
    reference = GraphRunner(context.graph)
    klds = {}
    for scheme in ("rtn", "gptq"):
        model = ir.load(context.graph)
        read_step({"scheme": scheme, "bits": 4, "embedding_bits": 4, "position_bits": 8}, "x").apply(model, context)
        clean(model)
        runner = GraphRunner(model)
        klds[scheme] = np.mean([divergences(reference.logits(i, 16), runner.logits(i, 16)).mean() for i in pieces])
    assert klds["gptq"] < 0.8 * klds["rtn"]


def test_a_measured_choice_is_the_divergence_of_the_graph_with_that_weight(tmp_path: Path) -> None:
    context = make_context(tmp_path)
    weight = next(w for w in all_weights(context) if w.stem == "h.0.in.weight")
    form = Form(4, 16, symmetric=True)
    coarse, fine = Choice("rtn", form, 0), Choice("rtn", Form(8, 16, symmetric=True), 0)
    (items,) = measure([Slot(weight, (coarse, fine, None))], context)
    assert [item.bytes for item in items] == [form.size(*weight.shape), size(weight, fine), 4 * weight.matrix().size]
    model = onnx.load(context.graph)
    tensor = next(t for t in model.graph.initializer if t.name == weight.name)
    rounded = dequantize(solve(weight, coarse, context))
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(rounded.T), tensor.name))
    pieces = calibration_of(context).pieces("measure", 3)
    a, b = GraphRunner(context.graph), GraphRunner(ir.from_proto(model))
    wanted = np.mean([divergences(a.logits(ids, 8), b.logits(ids, 8)).mean() for ids in pieces])
    assert items[0].kld == pytest.approx(wanted, rel=1e-3)
    assert 0 < items[1].kld < items[0].kld / 50
    assert items[2].kld == 0
    session(model)


def test_int8_activations_add_to_what_a_choice_costs_and_more_with_longer_blocks(tmp_path: Path) -> None:
    context = make_context(tmp_path)
    weight = next(w for w in all_weights(context) if w.stem == "h.0.out.weight")
    forms = [(Form(8, block, symmetric=True), level) for block, level in ((16, 0), (16, 4), (128, 4))]
    choices = [Choice("rtn", form, level) for form, level in forms]
    (items,) = measure([Slot(weight, (choices[0], choices[1]))], context)
    (longer,) = measure([Slot(weight, (choices[1], choices[2]))], context)
    assert items[1].kld > 1.5 * items[0].kld
    assert longer[1].kld > longer[0].kld


def test_lines_of_json_and_several_files_are_read_one_after_the_other(tmp_path: Path) -> None:
    calibration = calibration_of(make_context(tmp_path))
    lines = tmp_path / "lines.jsonl"
    lines.write_text('{"text": "1 2"}\n{"prompt": "3"}\n')
    several = replace(calibration, paths=(lines, *calibration.paths))
    assert several.ids.tolist() == [1, 2, 3, *calibration.ids.tolist()]


def test_a_conversation_is_rendered_by_the_model_s_own_template(tmp_path: Path) -> None:
    calibration = calibration_of(make_context(tmp_path))
    lines = tmp_path / "lines.jsonl"
    lines.write_text('{"messages": [{"role": "user", "content": "5 6"}]}\n')
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "0"}
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    several = replace(calibration, paths=(lines,))
    with pytest.raises(InputError, match="has no chat template") as refusal:
        _ = several.ids
    assert refusal.value.where == f"{lines}:1"
    template = (
        "{% for message in messages %}7 {{ message.content }} {% endfor %}{% if add_generation_prompt %}8{% endif %}"
    )
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": template}))
    assert several.ids.tolist() == [7, 5, 6]


def test_a_line_that_is_no_calibration_text_is_refused_by_file_and_line(tmp_path: Path) -> None:
    calibration = calibration_of(make_context(tmp_path))
    lines = tmp_path / "lines.jsonl"
    lines.write_text('{"text": "1 2"}\n{"conversations": []}\n')
    with pytest.raises(InputError, match="unknown key 'conversations'") as refusal:
        _ = replace(calibration, paths=(lines,)).ids
    assert refusal.value.where == f"{lines}:2"
