"""Read a checked checkpoint's tensors as float32, one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from safetensors import safe_open

from artifact import checkpoint
from artifact.errors import InputError
from artifact.signature import Dimensions


def read(directory: Path, config: ModuleType, dims: Dimensions, *, allow_pickle: bool) -> dict[str, Any]:
    """The model's tensors by the names that `config.tensors` gives, float32 (bfloat16 and float16 upcast exactly).

    Raises InputError for a tensor that is not finite, or stored twice under two spellings of its name.
    """
    weights: dict[str, np.ndarray[Any, Any]] = {}
    found = checkpoint.inspect(directory, allow_pickle=allow_pickle)
    for stored, tensor in _tensors(found):
        name = config.canonical_name(stored, tied=dims.tied)
        if name is None:
            continue
        hint = "fetch the checkpoint again"
        if name in weights:
            raise InputError(f"tensor {name} is stored twice", where=directory, hint=hint)
        values = tensor.to(torch.float32)
        if not torch.isfinite(values).all():
            raise InputError(f"tensor {name} holds NaN or Inf", where=directory, hint=hint)
        weights[name] = values.numpy()
    return weights


def _tensors(found: checkpoint.Checkpoint) -> Iterator[tuple[str, torch.Tensor]]:
    for file in found.weight_files:
        path = found.directory / file
        if found.tensors is None:
            yield from torch.load(path, map_location="cpu", weights_only=True).items()
        elif file != checkpoint.INDEX:
            with safe_open(path, framework="pt") as opened:
                for name in opened.keys():  # noqa: SIM118 - the reader has keys(), but is no mapping
                    yield name, opened.get_tensor(name)
