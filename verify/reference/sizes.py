"""Read a model's sizes off the names and axes of its graph's inputs and outputs; nothing of its weights is read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from model.contract import CACHE_IN, Dimensions

WORDS = {"layers": "layers", "kv_heads": "heads of keys and values", "head_dim": "numbers in a head"}


def sizes(path: Path) -> dict[str, int]:
    """The sizes of Dimensions that a file states: layers, kv_heads, head_dim, vocabulary; fewer where it is unclear."""
    graph = onnx.load(path, load_external_data=False).graph
    inputs = {value.name: _axes(value) for value in graph.input}
    past = {name: axes for name, axes in inputs.items() if name.startswith(CACHE_IN)}
    found = {"layers": sum(name.endswith(".key") for name in past)}
    for axes in past.values():
        if len(axes) == 4:
            found |= {"kv_heads": axes[1], "head_dim": axes[3]}
    for value in graph.output:
        if value.name == "logits" and _axes(value):
            found["vocabulary"] = _axes(value)[-1]
    return {name: size for name, size in found.items() if size}


def differing(found: Mapping[str, int], dims: Dimensions) -> str | None:
    """Return how sizes differ from a config's, in words, such as "has 12 layers, not the 6"; None: not at all."""
    for name, size in found.items():
        wanted = getattr(dims, name)
        if size != wanted:
            return f"has {size} {WORDS.get(name, 'entries in its vocabulary')}, not the {wanted}"
    return None


def _axes(value: Any) -> list[int]:
    """Sizes of the axes; 0 for one that has a name, or none."""
    return [axis.dim_value for axis in value.type.tensor_type.shape.dim]
