"""The graph of GPT-NeoX computes what transformers' model does, under any padding and split, or is refused."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import AutoConfig

from model import architecture
from model.architectures.neox import config as neox
from model.architectures.neox import fused, landmarks, standard
from pipeline.errors import InputError
from tests.support.random_decoder import hold, random_decoder

SIZES = {
    "model_type": "gpt_neox",
    "vocab_size": 90,
    "hidden_size": 64,
    "intermediate_size": 72,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "bos_token_id": 89,
    "eos_token_id": [89, 88],
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "half": {"rotary_pct": 0.5, "rotary_emb_base": 500},
    "whole": {"rotary_pct": 1.0},
    "table": {"rope_parameters": {"rope_type": "default", "rope_theta": 700.0, "partial_rotary_factor": 0.75}},
    "linear": {"rope_scaling": {"type": "linear", "factor": 2.5}, "rotary_pct": 0.5},
    "yarn": {"rope_parameters": {**YARN, "rope_theta": 1e5, "partial_rotary_factor": 0.5}},
    "one_after_the_other": {"use_parallel_residual": False, "hidden_act": "gelu_new"},
    "tied": {"tie_word_embeddings": True, "hidden_act": "gelu_fast"},
    "no_biases": {"attention_bias": False, "hidden_act": "quick_gelu"},
    "epsilon": {"layer_norm_eps": 1e-2, "hidden_act": "relu"},
}  # fmt: skip


@pytest.mark.parametrize("changes", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
@pytest.mark.parametrize("form", ["standard", "fused"])
def test_graph_is_transformers_model(changes: dict[str, Any], form: str) -> None:
    hold(random_decoder({**SIZES, **changes}), form)


def test_an_activation_that_learns_is_written_in_the_standard_form_only() -> None:
    source = random_decoder({**SIZES, "hidden_act": "prelu"})
    hold(source, "standard")
    assert fused.unsupported(source.config) == "hidden_act 'prelu' has no fused operator"


def test_fused_graph_has_one_node_for_each_rotation_and_activation() -> None:
    source = random_decoder(SIZES)
    kinds = [(node.domain, node.op_type) for node in fused.build(source).graph]
    layers = source.dims.layers
    assert kinds.count(("com.microsoft", "RotaryEmbedding")) == 2 * layers
    assert kinds.count(("com.microsoft", "Gelu")) == layers
    assert {node.domain for node in standard.build(source).graph} == {""}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "odd_share": ({"rotary_pct": 0.2}, "rotary_pct is 0.2"),
    "no_share": ({"rotary_pct": 0}, "rotary_pct is 0"),
    "share_in_table": ({"rope_parameters": {"partial_rotary_factor": 2}}, "rotary_pct is 2"),
    "share_elsewhere": ({"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5"),
    "theta_elsewhere": ({"rope_theta": 500.0}, "rope_theta is 500.0"),
    "width_elsewhere": ({"head_dim": 8}, "head_dim is 8"),
    "base": ({"rotary_emb_base": "10000"}, "rotary_emb_base is '10000'"),
    "dynamic": ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope_scaling.rope_type is 'dynamic'"),
    "no_table": ({"rope_scaling": "linear"}, "rope_scaling is 'linear'"),
    "no_factor": ({"rope_scaling": {"type": "linear"}}, "rope_scaling.factor is None"),
    "activation": ({"hidden_act": "glue"}, "hidden_act is 'glue'"),
    "hidden": ({"hidden_size": 62}, "hidden_size is 62"),
    "layers": ({"num_hidden_layers": "2"}, "num_hidden_layers is '2'"),
    "flag": ({"use_parallel_residual": "yes"}, "use_parallel_residual is 'yes'"),
    "epsilon": ({"layer_norm_eps": 0}, "layer_norm_eps is 0"),
    "end": ({"eos_token_id": [89, "88"]}, "eos_token_id is '88'"),
    "head": ({"architectures": ["GPTNeoXForTokenClassification"]}, "architectures is ['GPTNeoXForTok"),
    "quantized": ({"quantization_config": {"quant_method": "awq"}}, "quantization_config is"),
}


@pytest.mark.parametrize(("changes", "what"), REFUSED.values(), ids=REFUSED)
def test_configuration_is_refused_by_key_and_value(changes: dict[str, Any], what: str) -> None:
    with pytest.raises(InputError, match=r"config\.json") as error:
        neox.dimensions({**SIZES, **changes}, "config.json")
    assert what in error.value.what


def test_sizes_left_to_defaults_are_those_of_transformers() -> None:
    right, values = AutoConfig.for_model("gpt_neox"), neox.values_of({"model_type": "gpt_neox"})
    assert {key: getattr(right, key) for key in neox.DEFAULTS} == {key: values[key] for key in neox.DEFAULTS}
    assert right.rope_parameters["rope_theta"] == values["rotary_emb_base"]
    assert right.rope_parameters["partial_rotary_factor"] == values["rotary_pct"]
    assert neox.complete({"model_type": "gpt_neox"})["intermediate_size"] == 24576
    assert landmarks.landmarks({"num_hidden_layers": 1}).layers[0].middle is None


def test_names_that_old_checkpoints_store() -> None:
    assert neox.canonical_name("embed_out.weight", tied=False) == "lm_head.weight"
    assert neox.canonical_name("embed_out.weight", tied=True) is None
    bias = "gpt_neox.layers.0.attention.dense.bias"
    assert neox.canonical_name(bias, tied=False) == bias
    for buffer in ("bias", "masked_bias", "rotary_emb.inv_freq"):
        assert neox.canonical_name(f"gpt_neox.layers.0.attention.{buffer}", tied=False) is None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, None),
        ({"attention_bias": False}, "biases"),
        ({"tie_word_embeddings": True}, "a head of its own"),
        ({"hidden_act": "relu"}, "GELU only"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "'linear'"),
    ],
)
def test_what_llama_cpp_does_not_compute(changes: dict[str, Any], why: str | None) -> None:
    own = architecture.of_model_type("gpt_neox", "config.json").gguf
    assert own is not None
    found = own.unsupported({**SIZES, **changes})
    assert found is None if why is None else why in (found or "")
