"""A configuration of GPT-2 is converted to what PyTorch computes, or refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.activations import ACT2FN

from model.architectures.gpt2 import config as gpt2
from model.architectures.gpt2 import fused
from pipeline.artifact.store import open_artifact
from pipeline.variants import GRAPHS
from tests.support.tiny_checkpoints import SIZES, assert_same, convert, converted, edit_config, write_checkpoint

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "untied": {"tie_word_embeddings": False},
    "inner": {"n_inner": 50},
    "no_scale": {"scale_attn_weights": False},
    "inverse_layer": {"scale_attn_by_inverse_layer_idx": True},
    "reorder": {"reorder_and_upcast_attn": True},
    "all_flags": {
        "scale_attn_by_inverse_layer_idx": True,
        "reorder_and_upcast_attn": True,
        "scale_attn_weights": False,
    },
    "epsilon": {"layer_norm_epsilon": 1e-3},
    "odd_vocabulary": {"vocab_size": 61},
    "vocabulary_as_wide_as_the_context": {"vocab_size": 64, "n_embd": 64, "n_positions": 64},
    "square": {"vocab_size": 96, "n_embd": 24, "n_inner": 96},
    "one_layer": {"n_layer": 1},
    "three_layers": {"n_layer": 3, "n_embd": 40},
    "one_head": {"n_head": 1},
    "heads_of_one": {"n_head": 32},
    "context_shorter_than_the_example": {"n_positions": 9},
    "outputs_asked_for": {"output_attentions": True, "output_hidden_states": True},
    "no_cache": {"use_cache": False},
}


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("options", CONFIGURATIONS.values(), ids=CONFIGURATIONS.keys())
def test_configuration(tmp_path: Path, options: dict[str, Any], graph: str) -> None:
    # transformers saves no configuration that asks its default attention for outputs; others do.
    saved = {key: value for key, value in options.items() if not key.startswith("output_")}
    checkpoint = write_checkpoint(tmp_path / "checkpoint", **saved)
    edit_config(checkpoint, **options)
    artifact = converted(checkpoint, tmp_path / "build", graph=graph)
    assert_same(checkpoint, artifact, {**SIZES, **options}["n_positions"])


@pytest.mark.parametrize("activation", gpt2.ACTIVATIONS)
def test_activation(tmp_path: Path, activation: str) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", activation_function=activation)
    assert_same(checkpoint, converted(checkpoint, tmp_path / "build", graph="standard"))


@pytest.mark.parametrize("activation", gpt2.ACTIVATIONS)
def test_activation_has_a_fused_operator_or_falls_back_with_a_reason(
    tmp_path: Path, activation: str, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", activation_function=activation)
    artifact = converted(checkpoint, tmp_path / "build")
    assert_same(checkpoint, artifact)
    form = open_artifact(artifact, made_by="test").manifest.facts["graph"]
    operators = {node.domain for node in onnx.load(artifact / "onnx" / "model.onnx").graph.node}
    warning = f"the standard graph is written, slower than the fused one: activation_function {activation!r}"
    assert (form == "standard") is (warning in capsys.readouterr().err)
    assert operators == {""} or form == "fused"
    assert form == ("fused" if activation in fused.ACTIVATIONS else "standard")


@pytest.mark.parametrize("activation", [*sorted(set(ACT2FN) - set(gpt2.ACTIVATIONS)), "gelu_newer", 7, None, ["relu"]])
def test_activation_is_refused_by_name(tmp_path: Path, activation: object, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    edit_config(checkpoint, activation_function=activation)
    assert convert(checkpoint, tmp_path / "build") == 3
    message = capsys.readouterr().err
    assert f"activation_function is {activation!r}, which cannot be converted" in message
    assert "known: gelu, gelu_10" in message
    assert "Traceback" not in message
    assert list((tmp_path / "build").rglob("*.onnx")) == []


def test_only_the_activation_that_does_not_export_is_left_out() -> None:
    assert set(ACT2FN) - set(gpt2.ACTIVATIONS) == {"xielu"}
    assert set(gpt2.ACTIVATIONS) < set(ACT2FN)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def test_half_precision_is_upcast_exactly(tmp_path: Path, dtype: torch.dtype) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", dtype=dtype)
    assert {tensor.dtype for tensor in load_file(checkpoint / "model.safetensors").values()} == {dtype}
    assert_same(checkpoint, converted(checkpoint, tmp_path / "build"))


def test_old_checkpoint_without_prefix_and_with_mask_buffers(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    path, context = checkpoint / "model.safetensors", SIZES["n_positions"]
    tensors = {name.removeprefix("transformer."): tensor for name, tensor in load_file(path).items()}
    for layer in range(SIZES["n_layer"]):
        tensors[f"h.{layer}.attn.bias"] = torch.ones(1, 1, context, context).tril()
        tensors[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    save_file(tensors, path, metadata={"format": "pt"})
    assert_same(checkpoint, converted(checkpoint, tmp_path / "build"))


def test_tied_head_that_is_stored_too(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    path = checkpoint / "model.safetensors"
    tensors = load_file(path)
    tensors["lm_head.weight"] = tensors["transformer.wte.weight"].clone()
    save_file(tensors, path, metadata={"format": "pt"})
    assert_same(checkpoint, converted(checkpoint, tmp_path / "build"))


def test_sharded_checkpoint(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", shard="40KB")
    assert len(list(checkpoint.glob("model-*.safetensors"))) > 2
    assert not (checkpoint / "model.safetensors").exists()
    assert_same(checkpoint, converted(checkpoint, tmp_path / "build"))


REFUSED = {
    "cross_attention": ({"add_cross_attention": True}, "add_cross_attention is True"),
    "classifier": ({"architectures": ["GPT2ForSequenceClassification"]}, "architectures is ['GPT2ForSequence"),
    "two_heads": ({"architectures": ["GPT2LMHeadModel", "GPT2DoubleHeadsModel"]}, "architectures is"),
    "pruned": ({"pruned_heads": {"0": [1]}}, "pruned_heads is {'0': [1]}"),
    "quantized": ({"quantization_config": {"quant_method": "bitsandbytes"}}, "quantization_config is"),
    "torchscript": ({"torchscript": True}, "torchscript is True"),
    "window": ({"sliding_window": 4}, "sliding_window is 4, which gpt2 does not have"),
    "head_width": ({"head_dim": 16}, "head_dim is 16, which gpt2 does not have"),
    "other_weights": ({"transformers_weights": "other.safetensors"}, "transformers_weights names other weights"),
    "alias": ({"hidden_size": 64}, "hidden_size is 64"),
    "flag": ({"scale_attn_weights": "false"}, "scale_attn_weights is 'false'"),
    "tied": ({"tie_word_embeddings": None}, "tie_word_embeddings is None"),
    "model_type": ({"model_type": "gpt_neo"}, "model_type is 'gpt_neo'"),
    "heads": ({"n_head": 5}, "n_embd is 32"),
    "epsilon": ({"layer_norm_epsilon": 0}, "layer_norm_epsilon is 0"),
    "epsilon_true": ({"layer_norm_epsilon": True}, "layer_norm_epsilon is True"),
    "epsilon_huge": ({"layer_norm_epsilon": 10**400}, "layer_norm_epsilon is 1000"),
    "dropout": ({"resid_pdrop": "much"}, "resid_pdrop is 'much'"),
}


@pytest.mark.parametrize(("changes", "what"), REFUSED.values(), ids=REFUSED.keys())
def test_configuration_is_refused(
    tmp_path: Path, changes: dict[str, Any], what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    edit_config(checkpoint, **changes)
    assert convert(checkpoint, tmp_path / "build") == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert what in err
    assert "config.json" in err
    assert "to do: " in err
    assert "Traceback" not in err
    assert not (tmp_path / "build" / "tiny" / "fp32").exists()
