"""Make a checkpoint of a Llama that a file of llama.cpp (GGUF) holds: float32 weights, config, tokenizer, template.

transformers reads such files too, but makes another tokenizer of them: of Llama's class, with a token before every
text and another end token. Here it is put together from the file's vocabulary and merges, with the steps before them
that llama.cpp takes for the file's `tokenizer.ggml.pre`. Numbers are what llama.cpp computes with: blocks of 4 or 8
bits, times their scale, are not made finer by being written as float32.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np

from model.architectures.llama.config import dimensions, tensors
from pipeline.errors import InputError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

KIND = "llama"  # llama.cpp's name of the architecture
Facts = Mapping[str, Any]
# What a converted file may say of the rotation beyond its base: none of it is carried over, so none may be there.
UNREAD = ("rope.scaling", "rope.freq_factors", "expert_count")
# Which splits come before byte-level BPE, by llama.cpp's name: of numbers into digits, or none.
DIGITS = {"gpt-2": False, "smollm": True}
ROLES = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}  # ours, and the file's
# Control tokens at which llama.cpp ends a text, whichever the file calls its end token.
ENDS = ("<|im_end|>", "<|endoftext|>", "<|end_of_text|>", "<|eot_id|>")
HINT = "use a GGUF file of a plain Llama with a byte-level tokenizer"


def write(path: Path, directory: Path) -> None:
    """Write a GGUF file's model into an empty directory. InputError for what is no Llama that can be carried over."""
    from safetensors.numpy import save_file

    reader = _open(path)
    facts = {name: entry.contents() for name, entry in reader.fields.items()}
    config = config_of(facts, path)
    save_file(weights_of(reader, config, path), directory / "model.safetensors", {"format": "pt"})
    (directory / "model.safetensors").chmod(0o644)  # safetensors writes 0600
    _save(directory / "config.json", config)
    tokens: dict[str, Any] = {key: config[key] for key in ("bos_token_id", "pad_token_id") if key in config}
    _save(directory / "generation_config.json", {**tokens, "eos_token_id": ends_of(facts)})
    tokenizer_of(facts, path).save(str(directory / "tokenizer.json"))
    _save(directory / "tokenizer_config.json", settings_of(facts, config))
    (directory / "README.md").write_text(_card(facts, path), encoding="utf-8")


def config_of(facts: Facts, path: Path) -> dict[str, Any]:
    """Return the content of config.json; InputError for a model of another kind, or with what is not carried over."""
    kind = facts.get("general.architecture")
    if kind != KIND:
        raise InputError(f"its architecture is {kind!r}, not {KIND!r}", where=path, hint=HINT)
    unread = [name for name in facts if name.removeprefix(f"{KIND}.").startswith(UNREAD)]
    if unread:
        raise InputError(f"{unread[0]} is not carried over", where=path, hint=HINT)
    heads = _fact(facts, "attention.head_count", path)
    hidden = _fact(facts, "embedding_length", path)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "mlp_bias": False,
        "hidden_act": "silu",
        "hidden_size": hidden,
        "head_dim": facts.get(f"{KIND}.attention.key_length", hidden // heads),
        "intermediate_size": _fact(facts, "feed_forward_length", path),
        "max_position_embeddings": _fact(facts, "context_length", path),
        "num_attention_heads": heads,
        "num_hidden_layers": _fact(facts, "block_count", path),
        "num_key_value_heads": facts.get(f"{KIND}.attention.head_count_kv", heads),
        "rms_norm_eps": _short(_fact(facts, "attention.layer_norm_rms_epsilon", path)),
        "rope_theta": _short(facts.get(f"{KIND}.rope.freq_base", 10000.0)),
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
        "vocab_size": len(_tokens(facts, path)),
    }
    ids = {f"{role}_token_id": facts.get(f"tokenizer.ggml.{name}_token_id") for role, name in ROLES.items()}
    return {**config, **{key: value for key, value in ids.items() if value is not None and not key.startswith("unk")}}


def weights_of(reader: gguf.GGUFReader, config: dict[str, Any], path: Path) -> dict[str, np.ndarray]:
    """Return the checkpoint's tensors, float32; a head in the file makes the config untied. InputError if one lacks."""
    stored = {tensor.name: tensor for tensor in reader.tensors}
    config["tie_word_embeddings"] = "output.weight" not in stored
    dimensions(config, path)  # refuses sizes that no Llama has
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    turned = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    weights = {}
    for key, shape in tensors(config).items():
        name = names.get_name(key, try_suffixes=(".weight",))
        found = None if name is None else stored.pop(name, None)
        if found is None:
            raise InputError(f"it has no tensor {name}", where=path, hint=HINT)
        array = gguf.quants.dequantize(found.data, found.tensor_type)
        if array.shape != shape:
            raise InputError(f"tensor {name} is {array.shape}, not {shape}", where=path, hint=HINT)
        heads = turned.get(key.split(".")[-2])
        weights[key] = np.ascontiguousarray(array if heads is None else halved(array, heads), np.float32)
    if stored:
        raise InputError(f"tensor {min(stored)} is no part of a plain Llama", where=path, hint=HINT)
    return weights


def halved(array: np.ndarray, heads: int) -> np.ndarray:
    """Return rows of queries or keys as transformers turns them: numbers of a pair are half a head apart."""
    pairs = array.reshape(heads, -1, 2, *array.shape[1:])
    return pairs.swapaxes(1, 2).reshape(array.shape)


def tokenizer_of(facts: Facts, path: Path) -> Tokenizer:
    """Return the byte-level BPE of the file's tokens and merges; InputError for a tokenizer of another kind."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

    kind, before = facts.get("tokenizer.ggml.model"), facts.get("tokenizer.ggml.pre")
    if kind != "gpt2" or before not in DIGITS:
        what = f"its tokenizer is {kind!r} after {before!r}; known are 'gpt2' after {' or '.join(map(repr, DIGITS))}"
        raise InputError(what, where=path, hint=HINT)
    tokens = _tokens(facts, path)
    merges = [tuple(merge.split(" ")) for merge in facts["tokenizer.ggml.merges"]]
    made = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges))
    bytewise = pre_tokenizers.ByteLevel(add_prefix_space=bool(facts.get("tokenizer.ggml.add_space_prefix", False)))
    digits = [pre_tokenizers.Digits(individual_digits=True)] if DIGITS[before] else []
    made.pre_tokenizer = pre_tokenizers.Sequence([*digits, bytewise]) if digits else bytewise
    made.decoder = decoders.ByteLevel()
    made.post_processor = processors.ByteLevel(trim_offsets=False)
    kinds = facts["tokenizer.ggml.token_type"]
    control = [token for token, own in zip(tokens, kinds, strict=True) if own == gguf.TokenType.CONTROL]
    made.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    return made


def settings_of(facts: Facts, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of tokenizer_config.json. Its class builds nothing anew, so the steps stay as they are."""
    tokens = facts["tokenizer.ggml.tokens"]
    ids = {role: facts.get(f"tokenizer.ggml.{name}_token_id") for role, name in ROLES.items()}
    template = facts.get("tokenizer.chat_template")
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": config["max_position_embeddings"],
        **{f"{role}_token": tokens[index] for role, index in ids.items() if index is not None},
        **({} if template is None else {"chat_template": template}),
    }


def ends_of(facts: Facts) -> list[int]:
    """Return the tokens that end a text: the file's own first, then the others that llama.cpp ends at."""
    tokens, kinds = facts["tokenizer.ggml.tokens"], facts["tokenizer.ggml.token_type"]
    others = [tokens.index(end) for end in ENDS if end in tokens]
    control = [index for index in others if kinds[index] == gguf.TokenType.CONTROL]
    return list(dict.fromkeys([facts["tokenizer.ggml.eos_token_id"], *control]))


def _open(path: Path) -> gguf.GGUFReader:
    try:
        return gguf.GGUFReader(path)
    except (OSError, ValueError, IndexError, KeyError) as error:
        raise InputError(f"it cannot be read as a GGUF file: {error}", where=path, hint=HINT) from error


def _fact(facts: Facts, name: str, path: Path) -> Any:
    key = f"{KIND}.{name}"
    if key not in facts:
        raise InputError(f"it does not state {key}", where=path, hint=HINT)
    return facts[key]


def _tokens(facts: Facts, path: Path) -> list[str]:
    tokens: list[str] | None = facts.get("tokenizer.ggml.tokens")
    if tokens is None:
        raise InputError("it has no tokens", where=path, hint=HINT)
    return tokens


def _short(value: float) -> float:
    """Return a number that the file holds in float32 by the fewest digits that mean it: 1e-05, not 9.99999975e-06."""
    return float(str(np.float32(value)))


def _card(facts: Facts, path: Path) -> str:
    """A README.md with the licence that the file states, and where the checkpoint is from."""
    known = facts.get("general.license")
    head = f"---\nlicense: {known}\n---\n" if known else ""
    name = facts.get("general.name", path.stem)
    return (
        f"{head}# {name}\n\nMade by `recipes/from_gguf.py` from `{path.name}`, whose weights were quantized before.\n"
    )


def _save(path: Path, table: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(table, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
