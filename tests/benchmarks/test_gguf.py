"""GGUF files that are written here, read back with the format's own reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

from benchmarks.engines.llamacpp.prepare import write
from model import architecture
from model.architectures.neox import landmarks
from tests.conftest import ROOT
from tests.support.random_decoder import random_decoder

Array = np.ndarray[Any, np.dtype[Any]]
gguf = pytest.importorskip("gguf", reason="one of the peers: make peers")


def test_a_written_file_holds_the_checkpoint_s_weights_and_its_vocabulary(tmp_path: Path) -> None:
    source = ROOT / "recipes" / "embedded"
    write(source, tmp_path / "model.gguf")
    reader = gguf.GGUFReader(tmp_path / "model.gguf")
    found = {tensor.name: tensor.data.reshape(tuple(reversed(tensor.shape))) for tensor in reader.tensors}
    weights = {
        name.removeprefix("transformer."): t.float().numpy()
        for name, t in load_file(source / "model.safetensors").items()
    }
    np.testing.assert_array_equal(found["token_embd.weight"], weights["wte.weight"])
    np.testing.assert_array_equal(found["blk.3.attn_qkv.weight"], weights["h.3.attn.c_attn.weight"].T)
    np.testing.assert_array_equal(found["blk.5.ffn_down.bias"], weights["h.5.mlp.c_proj.bias"])
    assert "output.weight" not in found  # tied: the reader uses the embedding
    assert len(found) == 2 + 2 + 12 * 6
    assert reader.get_field("gpt2.block_count").contents() == 6
    assert len(reader.get_field("tokenizer.ggml.tokens").contents()) == 2000
    assert reader.get_field("tokenizer.ggml.eos_token_id").contents() == 1999


def test_a_llama_has_its_sizes_and_pairs_of_numbers_side_by_side(tmp_path: Path) -> None:
    source = ROOT / "recipes" / "embedded-llama"
    write(source, tmp_path / "model.gguf")
    reader = gguf.GGUFReader(tmp_path / "model.gguf")
    found = {tensor.name: tensor.data.reshape(tuple(reversed(tensor.shape))) for tensor in reader.tensors}
    weights = {name: t.float().numpy() for name, t in load_file(source / "model.safetensors").items()}
    np.testing.assert_array_equal(found["blk.3.attn_v.weight"], weights["model.layers.3.self_attn.v_proj.weight"])
    key, right = found["blk.1.attn_k.weight"], weights["model.layers.1.self_attn.k_proj.weight"]
    for head in (0, 32):
        np.testing.assert_array_equal(key[head : head + 32 : 2], right[head : head + 16])
        np.testing.assert_array_equal(key[head + 1 : head + 32 : 2], right[head + 16 : head + 32])
    assert len(found) == 2 + 4 * 9
    fields = ("attention.head_count_kv", "attention.key_length", "rope.freq_base", "feed_forward_length")
    assert [reader.get_field(f"llama.{name}").contents() for name in fields] == [2, 32, 10000.0, 352]


SIZES = {
    "vocab_size": 90,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}


def tensors(config: dict[str, Any], path: Path) -> tuple[dict[str, Array], dict[str, Array]]:
    """A random model's tensors in a GGUF file's order and names, and as the checkpoint has them."""
    own, source = architecture.of_model_type(config["model_type"], "config.json").gguf, random_decoder(config)
    assert own is not None
    assert own.unsupported(config) is None
    right = {name: tensor.numpy() for name, tensor in source.weights().items()}
    made = own.writer(config, right, path)
    return {name: info.tensor for table in made.tensors for name, info in table.items()}, right


@pytest.mark.parametrize("kind", ["qwen2", "qwen3"])
def test_a_qwen_has_rows_as_stored_and_biases_or_norms_of_heads(kind: str, tmp_path: Path) -> None:
    config = {**SIZES, "model_type": kind, "num_key_value_heads": 2, "head_dim": 16, "tie_word_embeddings": True}
    found, right = tensors(config, tmp_path / "model.gguf")
    name = "model.layers.1.self_attn"
    np.testing.assert_array_equal(found["blk.1.attn_k.weight"], right[f"{name}.k_proj.weight"])
    own = ("blk.1.attn_q.bias", "q_proj.bias") if kind == "qwen2" else ("blk.1.attn_q_norm.weight", "q_norm.weight")
    np.testing.assert_array_equal(found[own[0]], right[f"{name}.{own[1]}"])
    assert len(found) == len(right)


def test_a_neox_has_queries_of_all_heads_first(tmp_path: Path) -> None:
    config = {**SIZES, "model_type": "gpt_neox"}
    found, right = tensors(config, tmp_path / "model.gguf")
    at = landmarks.landmarks(config).layers[1]
    places = np.concatenate([np.asarray(part.outputs) for part in (at.query, at.key, at.value)])
    for part in ("weight", "bias"):
        np.testing.assert_array_equal(found[f"blk.1.attn_qkv.{part}"], right[f"{at.query.module}.{part}"][places])
    np.testing.assert_array_equal(found["output.weight"], right["lm_head.weight"])
    assert len(found) == len(right)
