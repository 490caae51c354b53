"""The graphs of Llama and its kin compute what transformers' models do, under any padding and split, or are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from transformers import AutoConfig, AutoModelForCausalLM

from model import architecture
from model.architectures.llama import circle, fused, landmarks, rope, standard
from model.architectures.llama import config as llama
from model.builder import Builder
from model.contract import Port
from model.session import open_session
from pipeline.errors import InputError
from tests.support.random_decoder import LLAMA, hold, random_decoder

SIZES = {
    **LLAMA,
    "tie_word_embeddings": True,
    "eos_token_id": [89, 88],
    "bos_token_id": 89,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "linear": {"rope_scaling": {"type": "linear", "factor": 2.5}},
    "llama3": {"rope_theta": 500000.0, "rope_scaling": LLAMA3},
    "llama3_of_transformers_5": {"rope_parameters": {**LLAMA3, "rope_theta": 500000.0}},
    "yarn": {"rope_scaling": YARN, "rope_theta": 130000},
    "yarn_stated": {"rope_parameters": {**YARN, "beta_fast": 16, "beta_slow": 2, "truncate": False}},
    "yarn_mscale": {"rope_parameters": {**YARN, "mscale": 0.7, "mscale_all_dim": 0.5}},
    "yarn_scaled": {"rope_parameters": {**YARN, "attention_factor": 0.8, "rope_theta": 1e6}},
    "untied": {"tie_word_embeddings": False},
    "heads_of_their_own": {"num_key_value_heads": 4},
    "one_key": {"num_key_value_heads": 1, "num_attention_heads": 8},
    "wide_heads": {"head_dim": 24},
    "biases": {"attention_bias": True, "mlp_bias": True, "num_key_value_heads": 1},
    "epsilon": {"rms_norm_eps": 1e-3},
    "mistral": {"model_type": "mistral", "sliding_window": None, "head_dim": 20},
    "mistral_window": {"model_type": "mistral", "sliding_window": 5},
    "mistral_window_of_one": {"model_type": "mistral", "sliding_window": 1, "num_key_value_heads": 4},
    "qwen2_window": {"model_type": "qwen2", "sliding_window": 6, "use_sliding_window": True, "max_window_layers": 1},
    "qwen3_window": {"model_type": "qwen3", "sliding_window": 4, "use_sliding_window": True,
                     "layer_types": ["sliding_attention", "full_attention"]},
    "qwen2": {"model_type": "qwen2", "sliding_window": 64, "use_sliding_window": False},
    "qwen2_untied_yarn": {"model_type": "qwen2", "tie_word_embeddings": False, "rope_scaling": YARN},
    "qwen3": {"model_type": "qwen3", "head_dim": 20},
    "qwen3_biases": {"model_type": "qwen3", "head_dim": 8, "attention_bias": True, "num_key_value_heads": 4},
}  # fmt: skip


@pytest.mark.parametrize("changes", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
@pytest.mark.parametrize("form", ["standard", "fused"])
def test_graph_is_transformers_model(changes: dict[str, Any], form: str) -> None:
    hold(random_decoder({**SIZES, **changes}), form)


@pytest.mark.parametrize("width", [24, 32, 64, 128])
@pytest.mark.parametrize("changes", [c for c in CONFIGURATIONS.values() if any("rope" in key for key in c)])
def test_frequencies_are_transformers_own(changes: dict[str, Any], width: int) -> None:
    config = {**SIZES, **changes, "head_dim": width, "model_type": "llama"}
    rotary = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config)).model.rotary_emb
    frequencies, scale = rope.frequencies(llama.values_of(config), width)
    np.testing.assert_array_max_ulp(frequencies, rotary.inv_freq.numpy(), 1)
    assert scale == pytest.approx(rotary.attention_scaling, rel=1e-12)


def test_cosines_and_sines_are_right_at_any_position() -> None:
    graph = Builder()
    angles = graph.port(Port("angles", "float32", ("batch_size", 1, "length", 1)))
    found = circle.cosine_and_sine(graph, angles)
    ports = [Port(name, "float32", ("batch_size", 1, "length", 1)) for name in ("cosine", "sine")]
    model = graph.model([angles], found, ports)
    model.graph.name = "main"
    session = open_session(ir.to_proto(model).SerializeToString())
    values = np.concatenate([np.linspace(0, 131072, 400_001), np.arange(4096)]).astype(np.float32)
    cosine, sine = session.run(None, {"angles": values.reshape(1, 1, -1, 1)})
    short = values < 8192
    for made, right in ((cosine, np.cos), (sine, np.sin)):
        off = np.abs(made.ravel() - right(values.astype(np.float64)))
        assert off[short].max() < 2e-7
        assert off.max() < 3e-6


def test_fused_graph_has_one_node_for_each_rotation_and_activation() -> None:
    source = random_decoder(SIZES)
    kinds = [(node.domain, node.op_type) for node in fused.build(source).graph]
    layers = source.dims.layers
    assert kinds.count(("com.microsoft", "RotaryEmbedding")) == 2 * layers
    assert kinds.count(("com.microsoft", "QuickGelu")) == layers
    assert {node.domain for node in standard.build(source).graph} == {""}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "dynamic": ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope_scaling.rope_type is 'dynamic'"),
    "longrope": ({"rope_parameters": {"rope_type": "longrope"}}, "rope_parameters.rope_type is 'longrope'"),
    "no_factor": ({"rope_scaling": {"type": "linear"}}, "rope_scaling.factor is None"),
    "frequencies": ({"rope_scaling": {**LLAMA3, "low_freq_factor": 4}}, "rope_scaling.low_freq_factor is 4"),
    "no_table": ({"rope_scaling": "linear"}, "rope_scaling is 'linear'"),
    "theta": ({"rope_theta": "10000"}, "rope_theta is '10000'"),
    "part": ({"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5"),
    "window": ({"model_type": "mistral", "sliding_window": 0}, "sliding_window is 0"),
    "window_of_a_type": ({"model_type": "mistral", "sliding_window": True}, "sliding_window is True"),
    "llama_window": ({"sliding_window": 64}, "sliding_window is 64"),
    "activation": ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
    "shared": ({"num_key_value_heads": 3}, "num_key_value_heads is 3"),
    "odd": ({"head_dim": 7}, "head_dim is 7"),
    "qwen_window": ({"model_type": "qwen2", "use_sliding_window": 1}, "use_sliding_window is 1"),
    "qwen_no_window": (
        {
            "model_type": "qwen2",
            "use_sliding_window": True,
            "sliding_window": None,
            "layer_types": ["sliding_attention", "full_attention"],
        },
        "layer_types is ['sliding",
    ),
    "qwen_layers": ({"model_type": "qwen3", "layer_types": ["sliding_attention"]}, "layer_types is ['sliding"),
    "qwen_head": ({"model_type": "qwen3", "architectures": ["Qwen2ForCausalLM"]}, "architectures is ['Qwen2"),
    "hidden": ({"hidden_size": 30}, "hidden_size is 30"),
    "layers": ({"num_hidden_layers": "2"}, "num_hidden_layers is '2'"),
    "bias": ({"model_type": "mistral", "sliding_window": None, "attention_bias": True}, "attention_bias is True"),
    "flag": ({"mlp_bias": "no"}, "mlp_bias is 'no'"),
    "epsilon": ({"rms_norm_eps": 0}, "rms_norm_eps is 0"),
    "end": ({"eos_token_id": [89, "88"]}, "eos_token_id is '88'"),
    "padding": ({"pad_token_id": 90}, "pad_token_id is 90"),
    "head": ({"architectures": ["LlamaForSequenceClassification"]}, "architectures is ['LlamaForSeq"),
    "quantized": ({"quantization_config": {"quant_method": "awq"}}, "quantization_config is"),
}


@pytest.mark.parametrize(("changes", "what"), REFUSED.values(), ids=REFUSED)
def test_configuration_is_refused_by_key_and_value(changes: dict[str, Any], what: str) -> None:
    config = {**SIZES, **changes}
    own = architecture.of_model_type(config["model_type"], "config.json").config
    with pytest.raises(InputError, match=r"config\.json") as error:
        own.dimensions(config, "config.json")
    assert what in error.value.what


def test_token_ids_outside_the_vocabulary_are_refused_where_transformers_refuses_them_alone() -> None:
    def loads(**changes: Any) -> Any:
        stated: dict[str, Any] = SIZES | changes
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(**stated))

    for changes in ({"eos_token_id": [89, 90]}, {"bos_token_id": -1, "pad_token_id": -1}):
        assert llama.dimensions({**SIZES, **changes}, "config.json").vocabulary == loads(**changes).vocab_size
    with pytest.raises(AssertionError, match="Padding_idx"):
        loads(pad_token_id=90)


def test_sizes_left_to_defaults_are_those_of_transformers() -> None:
    for kind in ("llama", "mistral", "qwen2", "qwen3"):
        right = AutoConfig.for_model(kind)
        values = architecture.of_model_type(kind, "config.json").config.complete({"model_type": kind})
        sizes = {key: getattr(right, key) for key in llama.SIZES if key != "head_dim" or kind != "qwen2"}
        assert sizes == {key: values[key] for key in sizes}
    for kind in ("llama", "mistral"):
        right, values = AutoConfig.for_model(kind), llama.values_of({"model_type": kind})
        stated = {key: getattr(right, key, default) for key, default in llama.DEFAULTS.items()}
        assert stated == {key: values[key] for key in llama.DEFAULTS}
        assert landmarks.landmarks({"model_type": kind, "num_hidden_layers": 1}).layers[0].gate
