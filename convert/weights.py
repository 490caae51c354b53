"""Read a checked checkpoint's tensors as float32, each when it is written and not before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch
from safetensors import safe_open

from model import checkpoint
from model.architecture import Configuration
from model.contract import Dimensions
from pipeline.errors import InputError


def read(directory: Path, config: Configuration, dims: Dimensions, *, allow_pickle: bool) -> dict[str, ir.LazyTensor]:
    """The model's tensors by the names that `config.tensors` gives, float32 (bfloat16 and float16 upcast exactly).

    Raises InputError for a tensor that is not finite, or stored twice under two spellings of its name.
    """
    weights: dict[str, ir.LazyTensor] = {}
    for stored, load in _tensors(checkpoint.inspect(directory, allow_pickle=allow_pickle)):
        name = config.canonical_name(stored, tied=dims.tied)
        if name is None:
            continue
        if name in weights:
            raise InputError(f"tensor {name} is stored twice", where=directory, hint=checkpoint.FETCH_AGAIN)
        tensor = load()
        if not torch.isfinite(tensor).all():
            raise InputError(f"tensor {name} holds NaN or Inf", where=directory, hint=checkpoint.FETCH_AGAIN)
        weights[name] = _lazy(name, load, tensor.shape)
    return weights


def _lazy(name: str, load: Callable[[], torch.Tensor], shape: tuple[int, ...]) -> ir.LazyTensor:
    def widen() -> ir.TensorProtocol:
        return ir.tensor(np.ascontiguousarray(load().to(torch.float32).numpy()), name=name)

    return ir.LazyTensor(widen, dtype=ir.DataType.FLOAT, shape=ir.Shape(shape), name=name)


def _tensors(found: checkpoint.Checkpoint) -> Iterator[tuple[str, Callable[[], torch.Tensor]]]:
    """Every stored tensor's name, and what loads it as it is stored."""
    for file in found.weight_files:
        path = found.directory / file
        if found.tensors is None:
            for name, tensor in torch.load(path, map_location="cpu", weights_only=True).items():
                yield name, partial(_same, tensor.detach())  # a Parameter would be no array
        elif file != checkpoint.INDEX:
            with safe_open(path, framework="pt") as opened:
                names = list(opened.keys())
            for name in names:
                yield name, partial(_stored, path, name)


def _same(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


def _stored(path: Path, name: str) -> torch.Tensor:
    with safe_open(path, framework="pt") as opened:
        tensor: torch.Tensor = opened.get_tensor(name)
    return tensor
