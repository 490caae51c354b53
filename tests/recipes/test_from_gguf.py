"""A GGUF file comes back as the checkpoint that it was made from, and what cannot come back is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from transformers import AutoTokenizer

from benchmarks.engines.llamacpp import prepare
from model.architectures.llama.config import tensors
from pipeline.errors import InputError
from tests.conftest import ROOT

gguf = pytest.importorskip("gguf", reason="what reads the format is not installed: make smollm2")
from_gguf: Any = pytest.importorskip("recipes.from_gguf")

EMBEDDED = ROOT / "recipes" / "embedded-llama"
SOMEWHERE = Path("model.gguf")
CONTROL, NORMAL = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
WORDS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "a", "b", "1", "2", "ab", "12"]
FACTS = {
    "general.architecture": "llama",
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "llama.attention.layer_norm_rms_epsilon": float(np.float32(1e-5)),
    "llama.embedding_length": 64,
    "llama.feed_forward_length": 96,
    "llama.context_length": 64,
    "llama.block_count": 2,
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "smollm",
    "tokenizer.ggml.tokens": WORDS,
    "tokenizer.ggml.token_type": [CONTROL] * 3 + [NORMAL] * 6,
    "tokenizer.ggml.merges": ["a b", "1 2"],
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 2,
    "tokenizer.ggml.unknown_token_id": 0,
    "tokenizer.ggml.padding_token_id": 2,
    "tokenizer.chat_template": "{{ messages }}",
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained small Llama as a GGUF file, in float32."""
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    prepare.write(EMBEDDED, path)
    return path


def test_what_was_written_for_llamacpp_comes_back_the_same(written: Path, tmp_path: Path) -> None:
    from_gguf.write(written, tmp_path)
    found, right = load_file(tmp_path / "model.safetensors"), embedded_numbers()
    assert found.keys() == right.keys()
    for name, array in right.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
    config, wanted = (json.loads((place / "config.json").read_text()) for place in (tmp_path, EMBEDDED))
    keys = ("hidden_size", "head_dim", "intermediate_size", "num_key_value_heads", "rms_norm_eps", "vocab_size")
    assert {key: config[key] for key in keys} == {key: wanted[key] for key in keys}
    ours, theirs = AutoTokenizer.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(EMBEDDED)
    for text in ("We, the people of 1787.", " Two  spaces\n", "é<|endoftext|>"):
        assert ours(text)["input_ids"] == theirs(text)["input_ids"]


def embedded_numbers() -> dict[str, Any]:
    """The embedded checkpoint's numbers; bfloat16 is read by torch alone."""
    from safetensors.torch import load_file as load

    return {name: tensor.float().numpy() for name, tensor in load(EMBEDDED / "model.safetensors").items()}


def test_numbers_of_four_bits_are_a_scale_times_a_code_and_a_least_one(tmp_path: Path) -> None:
    config = from_gguf.config_of(FACTS, SOMEWHERE)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 2)
    writer, numbers = gguf.GGUFWriter(tmp_path / "model.gguf", "llama"), np.random.default_rng(0)
    kind = gguf.GGMLQuantizationType.Q4_1
    codes: dict[str, Any] = {}
    for key, shape in tensors(config).items():
        array = numbers.normal(size=shape).astype(np.float32)
        name = names.get_name(key, try_suffixes=(".weight",))
        codes[key] = gguf.quants.quantize(array, kind) if len(shape) == 2 else array
        writer.add_tensor(name, codes[key], raw_dtype=kind if len(shape) == 2 else None)
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
        step()
    writer.close()
    found = from_gguf.weights_of(gguf.GGUFReader(tmp_path / "model.gguf"), config, SOMEWHERE)
    key = "model.layers.1.mlp.up_proj.weight"
    blocks = codes[key].reshape(96, 2, 20)  # a scale and the least number in float16, then 32 codes of 4 bits
    scale, least = (blocks[..., at : at + 2].copy().view(np.float16).astype(np.float32) for at in (0, 2))
    four = np.concatenate([blocks[..., 4:] & 15, blocks[..., 4:] >> 4], axis=-1)
    np.testing.assert_array_equal(found[key], (scale * four + least).reshape(96, 64))
    assert config["tie_word_embeddings"] is True


def test_rows_turn_back() -> None:
    from model.architectures.llama.gguf import _interleaved

    rows = np.arange(24.0).reshape(12, 2)
    assert not np.array_equal(_interleaved(rows, 2), rows)
    np.testing.assert_array_equal(from_gguf.halved(_interleaved(rows, 2), 2), rows)


def test_a_text_ends_at_every_token_at_which_llamacpp_ends_it_the_files_own_first() -> None:
    assert from_gguf.ends_of(FACTS) == [2, 0]
    plain = {**FACTS, "tokenizer.ggml.token_type": [NORMAL] * 9}
    assert from_gguf.ends_of(plain) == [2]


def test_digits_are_split_where_the_file_says_so() -> None:
    split = from_gguf.tokenizer_of(FACTS, SOMEWHERE)
    assert split.encode("ab12<|im_end|>").tokens == ["ab", "1", "2", "<|im_end|>"]
    whole = from_gguf.tokenizer_of({**FACTS, "tokenizer.ggml.pre": "gpt-2"}, SOMEWHERE)
    assert whole.encode("ab12").tokens == ["ab", "12"]


def test_the_settings_name_special_tokens_and_the_chat_template() -> None:
    config = from_gguf.config_of(FACTS, SOMEWHERE)
    assert (config["rms_norm_eps"], config["head_dim"], config["eos_token_id"]) == (1e-5, 16, 2)
    settings = from_gguf.settings_of(FACTS, config)
    roles = {role: settings[f"{role}_token"] for role in ("bos", "eos", "unk", "pad")}
    assert roles == {"bos": "<|im_start|>", "eos": "<|im_end|>", "unk": "<|endoftext|>", "pad": "<|im_end|>"}
    assert settings["chat_template"] == "{{ messages }}"
    assert settings["model_max_length"] == 64


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"general.architecture": "gpt2"}, "its architecture is 'gpt2'"),
        ({"llama.rope.scaling.type": "yarn"}, "llama.rope.scaling.type is not carried over"),
        ({"llama.expert_count": 8}, "llama.expert_count is not carried over"),
        ({"llama.block_count": None}, "does not state llama.block_count"),
        ({"tokenizer.ggml.tokens": None}, "has no tokens"),
        ({"tokenizer.ggml.model": "llama"}, "its tokenizer is 'llama' after 'smollm'"),
        ({"tokenizer.ggml.pre": "qwen2"}, "its tokenizer is 'gpt2' after 'qwen2'"),
    ],
)
def test_what_is_not_carried_over_is_refused(changed: dict[str, Any], what: str) -> None:
    facts = {name: value for name, value in {**FACTS, **changed}.items() if value is not None}
    with pytest.raises(InputError, match=what):
        from_gguf.tokenizer_of(facts, from_gguf.config_of(facts, SOMEWHERE) and SOMEWHERE)


def test_tensors_that_lack_or_are_too_many_or_no_file_of_the_format_are_refused(written: Path, tmp_path: Path) -> None:
    reader = gguf.GGUFReader(written)
    facts = {name: entry.contents() for name, entry in reader.fields.items()}
    shorter = {**from_gguf.config_of(facts, written), "num_hidden_layers": 3}
    with pytest.raises(InputError, match=r"tensor blk\.3\.attn_k\.weight is no part of a plain Llama"):
        from_gguf.weights_of(reader, shorter, written)
    longer = {**shorter, "num_hidden_layers": 5}
    with pytest.raises(InputError, match=r"it has no tensor blk\.4"):
        from_gguf.weights_of(reader, longer, written)
    (tmp_path / "model.gguf").write_bytes(b"no such format")
    with pytest.raises(InputError, match="cannot be read as a GGUF file"):
        from_gguf.write(tmp_path / "model.gguf", tmp_path)
