"""Read a checkpoint's tensors by the names that its architecture gives them, tied as transformers ties them.

transformers ties a head to the embedding where the config says so and the two do not differ; it takes either for both
where one alone is stored; and it leaves them apart where both are stored and differ, whatever the config says.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from convert import diagnosis
from model import checkpoint
from model.architecture import Architecture, Config
from model.checkpoint import BELONGS, Checkpoint, Tensor
from pipeline.errors import InputError

if TYPE_CHECKING:  # torch takes seconds to load
    import torch


def names(stored: Collection[str], own: Architecture, config: Config, *, tied: bool) -> dict[str, str]:
    """Return the names that `own.config.tensors` gives, by stored name; without those that hold nothing new."""
    embedding, head = ends(own, config)
    found = {name: own.config.canonical_name(name, tied=tied) for name in stored}
    if tied and embedding not in found.values() and head in stored:
        found[head] = embedding
    return {name: known for name, known in found.items() if known is not None}


def ends(own: Architecture, config: Config) -> tuple[str, str]:
    """Return the names of the embedding's table and of the head's."""
    at = own.landmarks.landmarks(config)
    return f"{at.embedding}.weight", f"{at.head}.weight"


def settled(found: Checkpoint, tensors: Mapping[str, Tensor], own: Architecture) -> Config:
    """Return the config as its tensors have it: untied if a head of other values is stored.

    Raises InputError, naming tensor and shapes, for a head that the config ties to an embedding of another shape.
    """
    config, where = found.config, found.directory / "config.json"
    embedding, head = ends(own, config)
    if not own.config.dimensions(config, where).tied or head not in tensors:
        return config
    table = next((name for name in tensors if own.config.canonical_name(name, tied=True) == embedding), None)
    if table is None:
        return config
    wanted, have = tensors[table], tensors[head]
    if have.shape != wanted.shape:
        what = f"config key tie_word_embeddings is true, and the file holds {head} of shape {have.shape} "
        what += f"beside {table} of shape {wanted.shape}"
        hint = f"remove {head} from the file, or save the model again after resizing its embeddings"
        raise InputError(what, where=found.directory, hint=hint)
    for name in (table, head):
        diagnosis.refuse_dtype(name, tensors[name], found.directory)
    return config if _equal(found, table, head) else {**config, "tie_word_embeddings": False}


def check(tensors: Mapping[str, Tensor], own: Architecture, config: Config, where: Path) -> None:
    """InputError naming the tensor, and what it tells, unless the tensors are those that the config asks for."""
    wanted = own.config.tensors(config)
    diagnosis.refuse_packed(tensors, where)
    diagnosis.refuse_wrapped(tensors.keys(), wanted.keys(), where)
    tied = own.config.dimensions(config, where).tied
    known = names(tensors, own, config, tied=tied)
    have = {name: stored for stored, name in known.items()}
    for name in sorted(wanted.keys() - have.keys()):
        raise InputError(f"tensor {name} is missing", where=where, hint=BELONGS)
    for name in sorted(have.keys() - wanted.keys()):
        raise diagnosis.foreign(name, have[name], where)
    for stored, name in known.items():
        if have[name] != stored:
            what = f"tensor {name} is stored twice, as {stored} and as {have[name]}"
            raise InputError(what, where=where, hint="remove one of the two")
    for name, shape in wanted.items():
        tensor = tensors[have[name]]
        if tensor.shape != shape:
            what = f"tensor {name} has shape {tensor.shape}, config.json asks for {shape}"
            raise InputError(what, where=where, hint=BELONGS)
        diagnosis.refuse_dtype(name, tensor, where)


def tensors(found: Checkpoint) -> Iterator[tuple[str, Callable[[], torch.Tensor]]]:
    """Yield every stored tensor's name, and what loads it as it is stored."""
    import torch
    from safetensors import safe_open

    for file in found.weight_files:
        path = found.directory / file
        if file in checkpoint.INDEXES:
            continue
        if found.tensors is None:
            for name, tensor in torch.load(path, map_location="cpu", weights_only=True).items():
                yield name, partial(_same, tensor.detach())  # a Parameter would be no array
        else:
            with safe_open(path, framework="pt") as opened:
                listed = list(opened.keys())
            for name in listed:
                yield name, partial(_stored, path, name)


def _equal(found: Checkpoint, table: str, head: str) -> bool:
    """Return whether two stored tensors are the same in float32, as transformers compares them."""
    import torch

    loaded = {name: load().to(torch.float32) for name, load in tensors(found) if name in (table, head)}
    return torch.equal(loaded[table], loaded[head])


def _same(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


def _stored(path: Path, name: str) -> torch.Tensor:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as opened:
        tensor: torch.Tensor = opened.get_tensor(name)
    return tensor
