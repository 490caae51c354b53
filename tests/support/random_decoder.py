"""A random decoder in PyTorch, and whether a graph computes what it does, under any padding and split."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache

from model import architecture
from model.architecture import Architecture
from model.contract import Dimensions
from model.session import open_session, options
from verify.candidate.session import positions_of

LENGTH = 19
LLAMA = {  # two layers, two heads of queries for each of keys
    "model_type": "llama",
    "vocab_size": 90,
    "hidden_size": 32,
    "intermediate_size": 72,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}


@dataclass(frozen=True)
class Source:
    """A model in memory as a writer of graphs reads a checkpoint."""

    model: Any
    config: dict[str, Any]

    @property
    def own(self) -> Architecture:
        return architecture.of_model_type(self.config["model_type"], "config.json")

    @property
    def dims(self) -> Dimensions:
        return self.own.config.dimensions(self.config, "config.json")

    def weights(self) -> dict[str, ir.TensorProtocol]:
        return {name: ir.tensor(weight.detach().numpy(), name=name) for name, weight in self.model.named_parameters()}


def random_decoder(config: dict[str, Any]) -> Source:
    """A random model, every part of which moves the logits."""
    torch.manual_seed(5)
    model: Any = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), attn_implementation="eager").eval()
    with torch.no_grad():
        for weight in model.parameters():
            spread = 0.3 if weight.dim() == 1 else weight.shape[1] ** -0.5
            weight.normal_(1.0 if weight.dim() == 1 else 0.0, spread)
    return Source(model, config)


def batches() -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Ids, mask and positions: padded on the left; on the right, with a gap, moved, with a jump."""
    ids = np.random.default_rng(0).integers(0, 88, (4, LENGTH))  # of a vocabulary of 90 or more
    mask = np.ones_like(ids)
    mask[0, :15], mask[1, :6], mask[2, :18] = 0, 0, 0
    yield ids, mask, positions_of(mask)
    mask = np.ones_like(ids)
    mask[0, 11:], mask[1, 5:9] = 0, 0
    positions = positions_of(mask)
    positions[2] += 100
    positions[3, 8:] += 100
    yield ids, mask, positions


PLANS = ([LENGTH], [7, 1, 1, 10], [LENGTH - 1, 1])


def hold(source: Source, form: str) -> None:
    """Hold a form of the graph to the model at both levels, logits and cache."""
    assert {name: weight.shape.numpy() for name, weight in source.weights().items()} == source.own.config.tensors(
        source.config
    )
    written = getattr(source.own, form).build(source)
    written.graph.name = "main"
    content = ir.to_proto(written).SerializeToString()
    onnx.checker.check_model(content, full_check=True)
    for level in ("disable_all", "enable_all"):
        session = open_session(content, options(level, threads=1))
        for ids, mask, positions in batches():
            with torch.no_grad():
                whole = DynamicCache()  # its own would drop what lies before a window
                right = source.model(*map(torch.tensor, (ids, mask, positions)), use_cache=True, cache=whole)
            for plan in PLANS:
                logits, present = run(session, source.dims, ids, mask, positions, plan)
                real = mask == 1
                assert np.abs(logits - right.logits.numpy())[real].max() < 2e-5
                for name, value in present.items():
                    _, layer, part = name.split(".")
                    kept = getattr(right.past_key_values.layers[int(layer)], f"{part}s").numpy()
                    assert np.abs(value - kept).swapaxes(1, 2)[real].max() < 1e-5, name


def run(
    session: Any, dims: Dimensions, ids: np.ndarray, mask: np.ndarray, positions: np.ndarray, plan: list[int]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Logits of all positions and the cache after a text in pieces."""
    names = [output.name for output in session.get_outputs()]
    empty = np.zeros((len(ids), dims.kv_heads, 0, dims.head_dim), np.float32)
    present = {name: empty for name in names if name != "logits"}
    found, at = [], 0
    for size in plan:
        end = at + size
        past = {name.replace("present", "past_key_values"): value for name, value in present.items()}
        feeds = {"input_ids": ids[:, at:end], "attention_mask": mask[:, :end], "position_ids": positions[:, at:end]}
        logits, *cache = session.run(names, {**feeds, **past})
        found.append(logits)
        present, at = dict(zip(names[1:], cache, strict=True)), end
    return np.concatenate(found, axis=1), present
