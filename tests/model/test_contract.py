from __future__ import annotations

from dataclasses import replace

import pytest

from model import contract
from model.contract import Dimensions, Port, inputs, outputs
from pipeline.variants import FILES, model_file

SMALL = Dimensions(
    layers=2, hidden=12, heads=4, kv_heads=3, head_dim=5, context=8, vocabulary=50, parameters=1000, tied=True
)
PAST = ("batch_size", 3, "past_sequence_length", 5)
TOTAL = ("batch_size", 3, "past_sequence_length + sequence_length", 5)


def test_a_tokens_cache_has_the_stated_heads_of_keys_and_values_and_their_width() -> None:
    assert SMALL.cached == 2 * 2 * 3 * 5


def test_inputs_are_named_and_ordered_as_the_loaders_expect() -> None:
    assert inputs(SMALL) == (
        Port("input_ids", "int64", ("batch_size", "sequence_length")),
        Port("attention_mask", "int64", ("batch_size", "past_sequence_length + sequence_length")),
        Port("position_ids", "int64", ("batch_size", "sequence_length")),
        Port("past_key_values.0.key", "float32", PAST),
        Port("past_key_values.0.value", "float32", PAST),
        Port("past_key_values.1.key", "float32", PAST),
        Port("past_key_values.1.value", "float32", PAST),
    )


def test_outputs_are_named_and_ordered_as_the_loaders_expect() -> None:
    assert outputs(SMALL) == (
        Port("logits", "float32", ("batch_size", "sequence_length", 50)),
        Port("present.0.key", "float32", TOTAL),
        Port("present.0.value", "float32", TOTAL),
        Port("present.1.key", "float32", TOTAL),
        Port("present.1.value", "float32", TOTAL),
    )


@pytest.mark.parametrize("layers", [0, 1, 11, 12])
def test_every_past_has_a_present_of_the_same_layer(layers: int) -> None:
    dims = replace(SMALL, layers=layers)
    past = [port.name.removeprefix("past_key_values") for port in inputs(dims)[3:]]
    present = [port.name.removeprefix("present") for port in outputs(dims)[1:]]
    assert past == present
    assert len(past) == len(set(past)) == 2 * layers


def test_file_names_are_those_that_transformers_js_asks_for() -> None:
    assert {variant: model_file(variant) for variant in FILES} == {
        "fp32": "onnx/model.onnx",
        "fp16": "onnx/model_fp16.onnx",
        "q8": "onnx/model_quantized.onnx",
        "int8": "onnx/model_int8.onnx",
        "uint8": "onnx/model_uint8.onnx",
        "q4": "onnx/model_q4.onnx",
        "q4f16": "onnx/model_q4f16.onnx",
        "q2": "onnx/model_q2.onnx",
        "q2f16": "onnx/model_q2f16.onnx",
        "bnb4": "onnx/model_bnb4.onnx",
    }


def test_versions_written_are_within_those_that_older_runtimes_load() -> None:
    assert contract.OPSET <= contract.MAX_OPSET
    assert contract.IR_VERSION <= contract.MAX_IR_VERSION
