"""Read a checked checkpoint's tensors as float32, each when it is written and not before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch

from convert import stored
from model import checkpoint
from model.architecture import Architecture, Config
from pipeline.errors import InputError

DIVERGED = "use an earlier checkpoint: its training has diverged, or its weights were beyond their type's range"


def read(
    directory: Path, own: Architecture, config: Config, *, tied: bool, allow_pickle: bool
) -> dict[str, ir.LazyTensor]:
    """The model's tensors by the names that `config.tensors` gives, float32 (bfloat16 and float16 upcast exactly).

    Raises InputError for a tensor that is not finite.
    """
    found = dict(stored.tensors(checkpoint.inspect(directory, allow_pickle=allow_pickle)))
    weights: dict[str, ir.LazyTensor] = {}
    for name, known in stored.names(found, own, config, tied=tied).items():
        tensor = found[name]()
        if not torch.isfinite(tensor).all():
            raise InputError(f"tensor {known} holds NaN or Inf", where=directory, hint=DIVERGED)
        weights[known] = _lazy(known, found[name], tensor.shape)
    return weights


def _lazy(name: str, load: Callable[[], torch.Tensor], shape: tuple[int, ...]) -> ir.LazyTensor:
    def widen() -> ir.TensorProtocol:
        return ir.tensor(np.ascontiguousarray(load().to(torch.float32).numpy()), name=name)

    return ir.LazyTensor(widen, dtype=ir.DataType.FLOAT, shape=ir.Shape(shape), name=name)
