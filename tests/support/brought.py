"""Say what people bring in place of a checkpoint that save_pretrained has written: each input changes a tiny one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from tests.support.tiny_checkpoints import Tensors, edit_tensors

Change = Callable[[Path], object]
END, TABLE, HEAD = 66, "transformer.wte.weight", "lm_head.weight"
WEIGHTS, CONFIG, GENERATION = "model.safetensors", "config.json", "generation_config.json"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 10\n"
PAGE = b"<!DOCTYPE html><html><body>Sign in</body></html>" * 20


def edited(name: str, *dropped: str, **keys: Any) -> Change:
    """A JSON file without some keys and with others."""

    def change(directory: Path) -> None:
        path = directory / name
        table = json.loads(path.read_text()) if path.is_file() else {}
        path.write_text(json.dumps({key: value for key, value in table.items() if key not in dropped} | keys))

    return change


def config(*dropped: str, **keys: Any) -> Change:
    return edited(CONFIG, *dropped, **keys)


def generation(*dropped: str, **keys: Any) -> Change:
    return edited(GENERATION, *dropped, **keys)


def together(*changes: Change) -> Change:
    def change(directory: Path) -> None:
        for one in changes:
            one(directory)

    return change


def without(*names: str) -> Change:
    def change(directory: Path) -> None:
        for name in names:
            (directory / name).unlink()

    return change


def renamed(name: str, other: str) -> Change:
    return lambda directory: (directory / name).rename(directory / other)


def content(name: str, data: bytes) -> Change:
    return lambda directory: (directory / name).write_bytes(data)


def begun(name: str, data: bytes) -> Change:
    """A file with something in front."""
    return lambda directory: (directory / name).write_bytes(data + (directory / name).read_bytes())


def inserted(text: str) -> Change:
    """A config with something after its first brace."""

    def change(directory: Path) -> None:
        path = directory / CONFIG
        path.write_text(path.read_text().replace("{", "{" + text + ",", 1))

    return change


def tensors(change: Callable[[Tensors], object]) -> Change:
    return lambda directory: edit_tensors(directory, change)


def prefixed(prefix: str) -> Change:
    return tensors(lambda table: [table.update({prefix + name: table.pop(name)}) for name in list(table)])


def metadata(table: dict[str, str] | None) -> Change:
    def change(directory: Path) -> None:
        save_file(load_file(directory / WEIGHTS), directory / WEIGHTS, metadata=table)

    return change


def cast(dtype: torch.dtype, *, among: int = 1) -> Change:
    """Every tensor of so many in another type."""
    return tensors(
        lambda table: table.update(
            {name: tensor.to(dtype) for at, (name, tensor) in enumerate(table.items()) if at % among == 0}
        )
    )


def packed(ends: Mapping[str, torch.dtype], *, keep: torch.dtype | None = None) -> Change:
    """Matrices in another form: tensors with these ends in their place, or beside one of another type."""

    def change(table: Tensors) -> None:
        for name in [name for name in table if ".c_" in name and name.endswith(".weight")]:
            stem = name.removesuffix(".weight")
            table.update({stem + end: torch.zeros(4, 1, dtype=dtype) for end, dtype in ends.items()})
            if keep is None:
                table.pop(name)
            else:
                table[name] = torch.zeros(8, 1, dtype=keep)

    return tensors(change)


def shards(*, pickled: bool = False, total: object = 1, gone: bool = False, twice: bool = False) -> Change:
    """The weights in two shards with an index."""

    def change(directory: Path) -> None:
        table = load_file(directory / WEIGHTS)
        (directory / WEIGHTS).unlink()
        names = sorted(table)
        stem, suffix = ("pytorch_model", ".bin") if pickled else ("model", ".safetensors")
        places = {name: f"{stem}-0000{1 + at % 2}-of-00002{suffix}" for at, name in enumerate(names)}
        for shard in sorted(set(places.values())):
            part = {name: table[name] for name in names if places[name] == shard or (twice and name == names[0])}
            if pickled:
                torch.save(part, directory / shard)
            else:
                save_file(part, directory / shard, metadata={"format": "pt"})
        if gone:
            (directory / places[names[1]]).unlink()
        index = {"metadata": {"total_size": total}, "weight_map": places}
        (directory / f"{stem}{suffix}.index.json").write_text(json.dumps(index))

    return change


def adapter(directory: Path) -> None:
    (directory / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "someone/base", "r": 4}))
    save_file({"base_model.model.h.0.lora_A.weight": torch.zeros(4, 32)}, directory / "adapter_model.safetensors")


def unmerged(table: Tensors) -> None:
    for name in list(table):
        inner = name.replace("c_attn.weight", "c_attn.base_layer.weight")
        table["base_model.model." + inner] = table.pop(name)


def dangling(name: str) -> Change:
    def change(directory: Path) -> None:
        (directory / name).unlink()
        (directory / name).symlink_to("../../blobs/0123456789abcdef")

    return change


def inside(directory: Path) -> None:
    """All of it in a directory below, as a trainer writes it."""
    (directory / "checkpoint-500").mkdir()
    for path in list(directory.iterdir()):
        if path.is_file():
            shutil.move(path, directory / "checkpoint-500" / path.name)


def buffers(table: Tensors) -> None:
    """The causal masks of old checkpoints; nobody reads their values."""
    table["transformer.h.0.attn.bias"] = torch.ones(1, 1, 24, 24).tril().bool()
    table["transformer.h.0.attn.masked_bias"] = torch.tensor(-1e4)
