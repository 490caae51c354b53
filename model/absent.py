"""Say why a directory holds no checkpoint that can be read: what lies there in its place, and what to do about it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

from pipeline.errors import InputError

SUFFIXES = (".json", ".safetensors", ".txt", ".bin", ".jinja", ".md")
ADAPTER = "adapter_config.json"
EXPORT = "save it in PyTorch with save_pretrained, or name the checkpoint that it was made from"
PARTS = "download all files: model.safetensors.index.json says which part holds which tensor"
# Patterns of names that people have in place of model.safetensors: what that is, and what to do.
INSTEAD = (
    ("*.incomplete", "a download that broke off", "download it again to its end"),
    ("model-*-of-*.safetensors", "parts of a checkpoint without their index", PARTS),
    ("model.*.safetensors", "a variant of the weights", "rename it to model.safetensors if it is the one you mean"),
    ("consolidated*", "weights under their first authors' names", "convert them with transformers' script for them"),
    ("*.safetensors", "weights by another name", "rename the file to model.safetensors if it holds the whole model"),
    ("*.gguf", "weights for llama.cpp", "name the checkpoint that it was made from: its weights are rounded"),
    ("tf_model.h5", "weights for TensorFlow", EXPORT),
    ("flax_model*.msgpack", "weights for Flax", EXPORT),
    ("rust_model.ot", "weights for Rust", EXPORT),
    ("*.onnx", "a converted model", "judge it with `verify --candidate`, or name the checkpoint it was made from"),
    ("onnx/*.onnx", "a converted model", "judge it with `verify --candidate`, or name the checkpoint it was made from"),
    ("*.pth", "a pickle of another program", EXPORT),
    ("*.ckpt", "a training state", EXPORT),
    ("*.pt", "a pickle of another program", EXPORT),
    ("*.bin", "a pickle by another name", EXPORT),
)  # fmt: skip


def refuse_dangling(directory: Path) -> None:
    """InputError for a file that is a link to nothing, as a cache of the Hub has when its blobs are gone."""
    for path in sorted(directory.iterdir()):
        if path.suffix in SUFFIXES and path.is_symlink() and not path.exists():
            hint = "the cache has lost that file: download it again (`hf download REPOSITORY --force-download`)"
            raise InputError(f"a link to {path.readlink()}, which is not there", where=path, hint=hint)


def refuse_adapter(directory: Path) -> None:
    """InputError for an adapter, alone or beside a model, to which transformers with PEFT would add it."""
    path = directory / ADAPTER
    if not path.is_file():
        return
    base = _base(path)
    if not (directory / "config.json").is_file():
        hint = f"merge it into its base{base} (PEFT: merge_and_unload, then save_pretrained) and convert the result"
        raise InputError(f"an adapter (PEFT, such as LoRA), not a model; its base is{base or ' not named'}",
                         where=path, hint=hint)  # fmt: skip
    hint = (
        f"merge it (PEFT: merge_and_unload, then save_pretrained), or move {ADAPTER} away if the model alone is meant"
    )
    raise InputError("an adapter lies beside the model: whether it belongs to it is not said", where=path, hint=hint)


def config_missing(directory: Path) -> InputError:
    """Return the error for a directory without config.json."""
    inner = [path.parent.name for path in sorted(directory.glob("*/config.json"))]
    if inner:
        hint = f"name that directory: {', '.join(inner[:5])}"
        return InputError("config.json is not here, but in a directory below", where=directory, hint=hint)
    hint = "name a directory as save_pretrained writes it, or download config.json too"
    return InputError("config.json is missing", where=directory / "config.json", hint=hint)


def weights_missing(directory: Path, *, name: str) -> InputError:
    """Return the error for a directory without weights under the names that transformers looks for."""
    paths = (*directory.iterdir(), *directory.glob("onnx/*.onnx"))
    there = [path.relative_to(directory).as_posix() for path in paths if path.is_file()]
    for pattern, what, hint in INSTEAD:
        found = _matching(there, pattern)
        if found:
            return InputError(f"no {name}; {found} is {what}", where=directory, hint=hint)
    inner = [path.parent.name for path in sorted(directory.glob(f"*/{name}"))]
    if inner:
        return InputError(f"no {name} here, but in {inner[0]}/", where=directory, hint=f"name {inner[0]} instead")
    hint = f"download {name} too, or name the directory that holds it"
    return InputError(f"no weights: {name} not found", where=directory, hint=hint)


def _matching(names: Iterable[str], pattern: str) -> str | None:
    """The first name that matches; one with a folder only by a pattern with one."""
    same = [name for name in sorted(names) if name.count("/") == pattern.count("/") and fnmatchcase(name, pattern)]
    return same[0] if same else None


def _base(path: Path) -> str:
    """The name of an adapter's base, with a space before it; empty where it says none."""
    try:
        table = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return ""
    base = table.get("base_model_name_or_path") if isinstance(table, dict) else None
    return f" {base!r}" if isinstance(base, str) and base else ""
