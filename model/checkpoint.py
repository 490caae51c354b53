"""Look at a checkpoint directory before any library loads it: file names, config, tensor headers. Nothing is allocated.

The safetensors layout checked here is the format's own specification: 8 bytes little-endian header length, a JSON
header of name -> {dtype, shape, data_offsets}, then the data without gaps or overlaps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model import absent, guard
from pipeline.canonical import parse_json, read_json
from pipeline.errors import InputError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLE, PICKLED_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
INDEXES = (INDEX, PICKLED_INDEX)
LFS_POINTER = b"version https://git-lfs"
HEADER_LIMIT = 100 * 2**20  # bytes; safetensors' own limit
RANK_LIMIT = 16  # dimensions of a tensor
# Bytes of an element. Most are refused later, by what they are; the layout of the file is checked for all of them.
WIDTH = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1,
         "U64": 8, "U32": 4, "U16": 2, "C64": 8, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1}  # fmt: skip
FLOATS = ("F32", "F16", "BF16")  # what float32 holds exactly
FETCH_AGAIN = "fetch the checkpoint again"
SAME_INDEX = "use the index that was saved with these shards, or fetch all of them again"
TRUSTED = "convert it to safetensors, or set source.allow_pickle = true in the recipe if you trust its author"
BELONGS = "take config.json and the weights from the same checkpoint"
# What other files begin with: what that is, and what to do. A safetensors file begins with its header's length.
BEGINNINGS = {
    b"<": ("a web page", "download the file itself, not its page"),
    b"{": ("JSON", "the Hub's answer may have been an error: open the file, then download it again"),
    b"Entry not": ("an error of the Hub", "download it again; the repository may not have this file"),
    b"PK\x03\x04": ("a zip archive, as torch.save writes", "save it as safetensors, or name it pytorch_model.bin"),
    b"\x80": ("a pickle", "save it as safetensors, or name it pytorch_model.bin"),
    b"GGUF": ("weights for llama.cpp", "name the checkpoint that it was made from"),
    b"\x1f\x8b": ("packed with gzip", "unpack it: gunzip"),
}


@dataclass(frozen=True)
class Tensor:
    """A stored tensor's element type (safetensors' name for it) and shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's config and tensors; `tensors` is None when the weights are a pickle, never opened here."""

    directory: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor] | None
    weight_files: tuple[str, ...]


def inspect(directory: Path, *, allow_pickle: bool = False) -> Checkpoint:
    """Inspect a checkpoint; InputError names the file and the tensor or key of anything that cannot be right."""
    if not directory.is_dir():
        raise InputError("not a directory", where=directory, hint="name a directory that holds a checkpoint")
    _check_names(directory)
    absent.refuse_dangling(directory)
    absent.refuse_adapter(directory)
    if not (directory / "config.json").exists():
        raise absent.config_missing(directory)
    config = read_config(directory / "config.json")
    if (directory / WEIGHTS).is_file():  # before the index, because that is the order in which transformers looks
        return Checkpoint(directory, config, read_header(directory / WEIGHTS), (WEIGHTS,))
    if (directory / INDEX).is_file():
        tensors, files = _sharded(directory)
        return Checkpoint(directory, config, tensors, (INDEX, *files))
    for name, what in (
        (PICKLE, "weights are a pickle, which can run code"),
        (PICKLED_INDEX, "weights are pickled shards, which can run code"),
    ):
        if (directory / name).is_file():
            if not allow_pickle:
                raise InputError(what, where=directory / name, hint=TRUSTED)
            refuse_pointer(directory / name)
            return Checkpoint(directory, config, None, (name,) if name == PICKLE else _pickled_shards(directory))
    raise absent.weights_missing(directory, name=WEIGHTS)


def loading(*, allow_pickle: bool) -> dict[str, Any]:
    """Keyword arguments with which both sides, the one that is exported and the reference, load a checkpoint.

    Eager attention, because it honours every scaling flag; nothing from the network, no remote code, no pickled code.
    """
    return {
        "attn_implementation": "eager",
        "trust_remote_code": False,
        "local_files_only": True,
        "use_safetensors": not allow_pickle or None,
        "weights_only": True,
        "output_loading_info": True,
    }


def read_config(path: Path) -> Mapping[str, Any]:
    """A model's config.json; keys that ask to run code are refused (model.guard)."""
    config = read_object(path)
    guard.refuse(config, path)
    if not isinstance(config.get("model_type"), str):
        hint = 'add "model_type", the name of its kind: without it transformers knows no architecture either'
        raise InputError("key model_type is missing", where=path, hint=hint)
    return config


def read_object(path: Path) -> dict[str, Any]:
    """One of a checkpoint's JSON files, which must be an object; InputError for anything else."""
    if path.is_file():
        refuse_pointer(path)
    value = read_json(path)
    if not isinstance(value, dict):
        hint = "it must be an object, { ... }, as save_pretrained writes it"
        raise InputError("not a JSON object", where=path, hint=hint)
    return value


def read_header(path: Path) -> dict[str, Tensor]:
    """Tensors of one safetensors file, checked against the file's length; InputError names file and tensor."""
    refuse_pointer(path)
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8:
            raise InputError(f"not safetensors: a file of {size} bytes", where=path, hint=FETCH_AGAIN)
        if length > min(size - 8, HEADER_LIMIT):
            what, hint = _beginning(length.to_bytes(8, "little"))
            what = f"safetensors header of {length} bytes in a file of {size}{what}"
            raise InputError(what, where=path, hint=hint)
        content = stream.read(length)
    header = parse_json(content, path)
    if not isinstance(header, dict) or not content.startswith(b"{"):
        raise InputError("safetensors header is not a JSON object", where=path, hint=FETCH_AGAIN)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        hint = "save it again with safetensors, and str() around each value of the metadata; or without metadata"
        raise InputError("key __metadata__ does not map text to text", where=path, hint=hint)
    spans = []
    tensors = {}
    for name, entry in header.items():
        tensor, begin, end = _entry(path, name, entry)
        tensors[name] = tensor
        spans.append((begin, end, name))
    at = 0
    for begin, end, name in sorted(spans):
        if begin != at:
            state = "overlaps another" if begin < at else "leaves a gap before it"
            raise InputError(f"tensor {name} {state}", where=path, hint=FETCH_AGAIN)
        at = end
    if at != size - 8 - length:
        raise InputError(f"tensors take {at} bytes, the file has {size - 8 - length}", where=path, hint=FETCH_AGAIN)
    return tensors


def _beginning(first: bytes) -> tuple[str, str]:
    """Return what a file is whose first bytes are no header's length, if they tell; and what to do."""
    for begin, (what, hint) in BEGINNINGS.items():
        if first.startswith(begin[:8]):
            return f": it is {what}", hint
    return "", FETCH_AGAIN


def refuse_pointer(path: Path) -> None:
    """InputError when git has left a pointer where the file's content should be."""
    with path.open("rb") as stream:
        if stream.read(len(LFS_POINTER)) == LFS_POINTER:
            hint = "run `git lfs pull` in the repository, or download the file from the Hub"
            raise InputError("Git LFS pointer, not content", where=path, hint=hint)


def _entry(path: Path, name: str, entry: object) -> tuple[Tensor, int, int]:
    def refuse(what: str) -> InputError:
        return InputError(f"tensor {name}: {what}", where=path, hint=FETCH_AGAIN)

    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= entry.keys():
        raise refuse("needs dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in WIDTH:
        hint = "use a checkpoint in float32, float16 or bfloat16"
        raise InputError(f"tensor {name}: unknown dtype {dtype!r}", where=path, hint=hint)
    if not _naturals(shape) or len(shape) > RANK_LIMIT:
        raise refuse(f"bad shape {shape!r}")
    if not _naturals(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise refuse(f"bad data_offsets {offsets!r}")
    tensor = Tensor(dtype, tuple(shape))
    begin, end = offsets
    if end - begin != tensor.elements * WIDTH[dtype]:
        raise refuse(f"shape {shape} of {dtype} does not fill its {end - begin} bytes")
    return tensor, begin, end


def _naturals(value: object) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 2**63 for item in value)


def _sharded(directory: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    path = directory / INDEX
    places = _places(path, ".safetensors")
    shards = sorted(set(places.values()))
    tensors: dict[str, Tensor] = {}
    for shard in shards:
        found = read_header(directory / shard)
        for name in found:
            if places.get(name) != shard:
                raise InputError(f"tensor {name} of {shard} is not listed there", where=path, hint=SAME_INDEX)
        tensors.update(found)
    for name in sorted(places.keys() - tensors.keys()):
        raise InputError(f"tensor {name} is not in shard {places[name]}", where=path, hint=SAME_INDEX)
    return tensors, tuple(shards)


def _pickled_shards(directory: Path) -> tuple[str, ...]:
    """Index and shards of weights that are pickles; no shard is opened but for a look at whether it is a pointer."""
    shards = sorted(set(_places(directory / PICKLED_INDEX, ".bin").values()))
    for shard in shards:
        refuse_pointer(directory / shard)
    return PICKLED_INDEX, *shards


def _places(path: Path, suffix: str) -> dict[str, str]:
    """An index's map from tensors to shards, each a file beside it."""
    refuse_pointer(path)
    index = read_json(path)
    places = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(places, dict) or not all(isinstance(shard, str) for shard in places.values()):
        raise InputError("key weight_map is missing or malformed", where=path, hint=SAME_INDEX)
    if not isinstance(index.get("metadata"), dict):
        hint = 'add "metadata": {}, which transformers asks for'
        raise InputError("key metadata is missing or malformed", where=path, hint=hint)
    present = {entry.name for entry in path.parent.iterdir() if entry.is_file()}
    for shard in sorted(set(places.values())):
        if Path(shard).name != shard or "\\" in shard or not shard.endswith(suffix):
            hint = f"the index may name only *{suffix} files beside it; use the one that was saved with them"
            raise InputError(f"shard name {shard!r} leaves the directory", where=path, hint=hint)
        if shard not in present:
            raise InputError(f"shard {shard} is missing", where=path, hint=f"download {shard[:80]!r} too")
    return places


def _check_names(directory: Path) -> None:
    seen: dict[str, str] = {}
    for path in sorted(directory.iterdir()):
        name = path.name
        try:
            name.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InputError(f"file name {name!r} is not UTF-8", where=directory, hint="rename the file") from error
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            raise InputError(
                f"file names {other} and {name} collide",
                where=directory,
                hint="remove one of them: many file systems hold only one",
            )
