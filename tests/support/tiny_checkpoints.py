"""Make tiny random GPT-2 checkpoints with a tokenizer, convert them by the stage itself, compare with PyTorch."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import tokenizers
import torch
from safetensors.torch import load_file, save_file
from tokenizers import decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel

from convert.__main__ import main
from model.pytorch import one_thread
from pipeline.command import run

LEVELS = ("ORT_DISABLE_ALL", "ORT_ENABLE_ALL")

EOS = "<|endoftext|>"

SIZES = {"n_layer": 2, "n_embd": 32, "n_head": 4, "n_positions": 24, "vocab_size": 67}

TOLERANCE = 1e-5  # largest absolute difference of float32 logits of about 10

RECIPE = """
name = "tiny"
architecture = "gpt2"
graph = "{graph}"
[source]
repository = "someone/tiny"
{source}
[variants]
[verify]
text = "none.txt"
checks = ["logits"]
"""


def write_tokenizer(directory: Path, size: int = SIZES["vocab_size"]) -> None:
    """A byte-level BPE of exactly `size` tokens, the last of which ends a text; in both formats."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    symbols = ["Ġ", *letters, *"0123456789.,!?"]
    pairs = [(first, letter) for first in ("Ġ", "t", "h") for letter in letters]
    merges = pairs[: size - len(symbols) - 1]
    vocabulary = {token: number for number, token in enumerate([*symbols, *map("".join, merges), EOS])}
    assert len(vocabulary) == size
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([EOS])
    tokenizer.model.save(str(directory))
    tokenizer.save(str(directory / "tokenizer.json"))
    settings = {"tokenizer_class": "GPT2Tokenizer", "eos_token": EOS, "bos_token": EOS, "unk_token": EOS}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))


def random_model(**options: Any) -> Any:
    """A model whose weights are large enough that every option changes its logits visibly."""
    sizes = {**SIZES, **options}
    end = sizes["vocab_size"] - 1
    torch.manual_seed(3)
    model: Any = GPT2LMHeadModel(GPT2Config(**{"bos_token_id": end, "eos_token_id": end, **sizes})).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            spread = 1.0 / math.sqrt(weight.shape[0]) if weight.dim() == 2 and "transformer.w" not in name else 0.3
            weight.normal_(1.0 if name.endswith(".weight") and ".ln_" in name else 0.0, spread)
    return model


def write_checkpoint(
    directory: Path, *, dtype: torch.dtype = torch.float32, shard: str = "1GB", **options: Any
) -> Path:
    """A checkpoint as the Hub holds it; `options` are config keys."""
    directory.mkdir(parents=True, exist_ok=True)
    random_model(**options).to(dtype).save_pretrained(directory, max_shard_size=shard)
    write_tokenizer(directory, options.get("vocab_size", SIZES["vocab_size"]))
    (directory / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Tiny\n")
    return directory


def edit_config(directory: Path, **changes: Any) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def write_recipe(directory: Path, source: str = "", graph: str = "fused") -> Path:
    """A recipe file; `source` is more TOML for its source table."""
    path = directory / "tiny.toml"
    path.write_text(RECIPE.format(source=source, graph=graph))
    return path


def convert(checkpoint: Path, build: Path, source: str = "", graph: str = "fused") -> int:
    """Run the stage on a checkpoint; its exit code."""
    build.mkdir(parents=True, exist_ok=True)
    recipe = write_recipe(build.parent, source, graph)
    with one_thread():
        return run(main, [str(recipe), "--source", str(checkpoint), "--build", str(build)])


def converted(checkpoint: Path, build: Path, source: str = "", graph: str = "fused") -> Path:
    """The float32 artifact that the stage makes of a checkpoint."""
    assert convert(checkpoint, build, source, graph) == 0
    return build / "tiny" / "fp32"


def reference(checkpoint: Path) -> Any:
    """The judge: transformers' own model, eager attention, float32."""
    loader: Any = GPT2LMHeadModel
    return loader.from_pretrained(checkpoint, dtype=torch.float32, attn_implementation="eager").eval()


def open_session(graph: Path, level: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def deviation(model: Any, session: onnxruntime.InferenceSession, lengths: Sequence[int], split: Sequence[int]) -> float:
    """Largest difference of logits and cache, over a left-padded batch that is fed in pieces of the given sizes.

    Both sides keep a cache of their own, from an empty one on. Padding is not compared: it has no meaning.
    """
    config, total = model.config, sum(split)
    ids = np.random.default_rng(5).integers(0, config.vocab_size, (len(lengths), total))
    mask = (np.arange(total) >= total - np.asarray(lengths)[:, None]).astype(np.int64)
    places = np.where(mask == 1, np.cumsum(mask, axis=1) - 1, 1)
    empty = np.zeros((len(lengths), config.n_head, 0, config.n_embd // config.n_head), np.float32)
    past = {f"past_key_values.{i}.{part}": empty for i in range(config.n_layer) for part in ("key", "value")}
    cache, worst, at = None, 0.0, 0
    for length in split:
        end = at + length
        feed = {"input_ids": ids[:, at:end], "attention_mask": mask[:, :end], "position_ids": places[:, at:end]}
        outputs = dict(
            zip([port.name for port in session.get_outputs()], session.run(None, {**feed, **past}), strict=True)
        )
        with torch.no_grad():
            tensors = {name: torch.from_numpy(value.copy()) for name, value in feed.items()}
            wanted = model(**tensors, cache=cache, use_cache=True, return_dict=True)
        cache = wanted.cache
        real = mask[:, at:end] == 1
        worst = max(worst, np.abs(outputs["logits"] - wanted.logits.numpy())[real].max(initial=0))
        past = {name.replace("present", "past_key_values"): outputs[name] for name in outputs if name != "logits"}
        for layer in range(config.n_layer):
            for part, tensor in (("key", cache.layers[layer].keys), ("value", cache.layers[layer].values)):
                gap = np.abs(outputs[f"present.{layer}.{part}"] - tensor.numpy())
                worst = max(worst, gap.swapaxes(1, 2)[mask[:, :end] == 1].max(initial=0))
        at = end
    assert np.isfinite(outputs["logits"]).all(), "padding may be anything but NaN"
    return float(worst)


def assert_same(checkpoint: Path, artifact: Path, context: int = SIZES["n_positions"]) -> None:
    """The graph equals PyTorch: whole context, one token, left-padded batch, cache in pieces, at both levels."""
    cases = [([context], [context]), ([1], [1]), ([9, 4, 1, 7], [9]), ([context, 3], [1, context - 2, 1])]
    model = reference(checkpoint)
    with one_thread():
        for level in LEVELS:
            session = open_session(artifact / "onnx" / "model.onnx", level)
            for lengths, split in cases:
                found = deviation(model, session, lengths, split)
                assert found <= TOLERANCE, f"{level}, lengths {lengths} in pieces {split}: {found}"
            assert_last_logits(session, model.config)


def assert_last_logits(session: onnxruntime.InferenceSession, config: Any) -> None:
    """Asked for the last positions only, the graph gives those of all positions, and the same cache."""
    ids = np.random.default_rng(7).integers(0, config.vocab_size, (2, 5))
    feed = {"input_ids": ids, "attention_mask": np.ones_like(ids), "position_ids": np.tile(np.arange(5), (2, 1))}
    empty = np.zeros((2, config.n_head, 0, config.n_embd // config.n_head), np.float32)
    feed |= {port.name: empty for port in session.get_inputs() if port.name.startswith("past_key_values.")}
    assert [port.name for port in session.get_overridable_initializers()] == ["num_logits_to_keep"]
    whole, *cache = session.run(None, feed)
    for keep, wanted in ((0, 5), (1, 1), (2, 2), (5, 5), (9, 5)):
        kept, *same = session.run(None, {**feed, "num_logits_to_keep": np.array(keep, np.int64)})
        assert kept.shape == (2, wanted, config.vocab_size)
        assert np.abs(kept - whole[:, -wanted:]).max() <= TOLERANCE
        assert all(np.array_equal(one, other) for one, other in zip(same, cache, strict=True))


Tensors = dict[str, torch.Tensor]


def edit_tensors(checkpoint: Path, change: Callable[[Tensors], object]) -> None:
    path = checkpoint / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


BIAS = "transformer.h.1.mlp.c_proj.bias"
