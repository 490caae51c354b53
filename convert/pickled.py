"""Names, types and shapes of the tensors in a PyTorch pickle, read without running its code or allocating its data."""

from __future__ import annotations

from pathlib import Path

from model.checkpoint import INDEXES, Checkpoint, Tensor
from pipeline.errors import InputError

DTYPES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}  # as safetensors spells them

STATE_DICT = "save the model's state dict alone, or better its safetensors: model.save_pretrained(DIRECTORY)"


def tensors(found: Checkpoint) -> dict[str, Tensor]:
    """The tensors of a checkpoint's state dicts; InputError for a name in two of them, and what `_tensors` raises."""
    every: dict[str, Tensor] = {}
    for file in found.weight_files:
        if file in INDEXES:
            continue
        more = _tensors(found.directory / file)
        for name in sorted(every.keys() & more.keys()):
            hint = "remove it from one of them"
            raise InputError(f"tensor {name} is in two shards", where=found.directory / file, hint=hint)
        every |= more
    return every


def _tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of one state dict; InputError when the pickle is damaged or holds anything else."""
    import torch

    try:
        state = torch.load(path, map_location="meta", weights_only=True)
    except Exception as error:  # a hostile pickle fails anywhere; torch's advice, to let it run, is not quoted
        what = f"the pickle is damaged, or holds more than tensors ({type(error).__name__})"
        raise InputError(what, where=path, hint="use the repository's safetensors, or another source") from error
    if not isinstance(state, dict):
        what = f"the pickle holds a {type(state).__name__}, not tensors by name"
        raise InputError(what, where=path, hint=STATE_DICT)
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise InputError(f"{name!r} in the pickle is no tensor", where=path, hint=STATE_DICT)
    return {name: Tensor(_dtype(tensor.dtype), tuple(tensor.shape)) for name, tensor in state.items()}


def _dtype(dtype: object) -> str:
    name = str(dtype).removeprefix("torch.")
    return DTYPES.get(name, name)
