"""A config with a value of the wrong kind, at any key that its architecture reads, is refused in words or accepted."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from transformers import AutoConfig

from model.architecture import of_model_type
from pipeline.errors import InputError

LLAMA = {
    "num_hidden_layers": 1,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "vocab_size": 99,
    "max_position_embeddings": 64,
}
SIZES: dict[str, dict[str, Any]] = {
    "gpt2": {"n_layer": 1, "n_embd": 32, "n_head": 4, "vocab_size": 99, "n_positions": 64},
    "llama": LLAMA,
    "mistral": {**LLAMA, "num_key_value_heads": 2, "sliding_window": None},
    "qwen2": {**LLAMA, "num_key_value_heads": 2},
    "qwen3": {**LLAMA, "num_key_value_heads": 2},
    "gpt_neox": LLAMA,
}
ROTATIONS: tuple[dict[str, Any] | None, ...] = (
    None,
    {"type": "linear", "factor": 2.0},
    {"rope_type": "yarn", "original_max_position_embeddings": 32},
    {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    },
)
# Keys that a config of transformers 5 need not have, and that are read all the same.
FURTHER = (
    *("architectures", "head_dim", "layer_types", "max_window_layers", "n_inner", "original_max_position_embeddings"),
    *("partial_rotary_factor", "rope_scaling", "rope_theta", "rotary_emb_base", "rotary_pct", "sliding_window"),
    *("tie_word_embeddings", "use_sliding_window", "quantization_config"),
)
IN_ROTATION = ("attention_factor", "beta_fast", "factor", "mscale", "mscale_all_dim", "rope_theta", "truncate", "type")
WRONG: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**70, 0.5, float("inf"), float("nan"), "", "x", [], [1], [[1]], [None], {}),
    *({"a": 1}, {"rope_type": [1]}, {"type": {}}, [{"a": 1}]),
)


def _changed(config: dict[str, Any]) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """The config with one wrong value each, at every key of it and of its table of rotary positions."""
    places: list[tuple[str, ...]] = [(key,) for key in {*config, *FURTHER} - {"model_type"}]
    tables = [key for key in ("rope_scaling", "rope_parameters") if isinstance(config.get(key), dict)]
    places += [(table, key) for table in tables for key in {*config[table], *IN_ROTATION}]
    for place in sorted(places):
        for value in WRONG:
            copied: dict[str, Any] = copy.deepcopy(config)
            node = copied
            for key in place[:-1]:
                node = node[key]
            node[place[-1]] = value
            yield ".".join(place), value, copied


@pytest.mark.parametrize(
    ("kind", "rotation"),
    [(kind, rotation) for kind in SIZES for rotation in ROTATIONS if kind != "gpt2" or not rotation],
)
def test_a_wrong_value_of_any_key_is_refused_by_an_error_of_ours(kind: str, rotation: dict[str, Any] | None) -> None:
    """Test what is accepted has names and shapes of tensors."""
    config = AutoConfig.for_model(kind, **SIZES[kind]).to_dict() | {"architectures": None}
    if rotation is not None:
        config = {key: value for key, value in config.items() if key != "rope_parameters"}
        config["rope_scaling"] = rotation
    own = of_model_type(kind, "config.json").config
    assert own.dimensions(config, "config.json").hidden == 32
    refused = 0
    for place, value, changed in _changed(config):
        try:
            own.dimensions(changed, "config.json")
            assert own.tensors(own.complete(changed))
        except InputError:
            refused += 1
        except Exception as error:
            raise AssertionError(f"{place} = {value!r}") from error
    assert refused > 50
