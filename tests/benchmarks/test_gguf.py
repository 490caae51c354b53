"""GGUF files that are written here, read back with the format's own reader."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from benchmarks.engines.llamacpp.prepare import write
from tests.conftest import ROOT

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
