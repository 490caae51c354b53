"""Tensors of a checkpoint by the names that llama.cpp gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def add(writer: Any, kind: str, layers: int, weights: Mapping[str, np.ndarray]) -> None:
    """Add tensors to a GGUFWriter; `kind` is llama.cpp's name of the architecture. ValueError for a name it lacks."""
    import gguf

    numbers = {name: number for number, name in gguf.MODEL_ARCH_NAMES.items()}
    names = gguf.get_tensor_name_map(numbers[kind], layers)
    for key, array in weights.items():
        name = names.get_name(key, try_suffixes=(".weight", ".bias"))
        if name is None:
            raise ValueError(f"llama.cpp's {kind} has no tensor for {key}")
        writer.add_tensor(name, np.ascontiguousarray(array))
