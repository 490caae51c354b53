"""The generation config that is written beside a graph, and what is said about the source's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model import checkpoint, generation, guard
from model.contract import Dimensions
from pipeline.command import say
from pipeline.warned import warn

FILES = ("config.json", generation.FILE, "tokenizer_config.json", "special_tokens_map.json")


def written(source: Path, dims: Dimensions, *, begin: int | None, pad: int) -> dict[str, Any]:
    """Return the content of generation_config.json; InputError for settings of the source that cannot be.

    `begin` and `pad` are the tokenizer's tokens for settings that name none.
    """
    table = generation.stated(source)
    kept = generation.kept(table)
    generation.require_usable(kept, generation.file_of(source))
    _warn(source, table, dims.vocabulary)
    return {**kept, **generation.tokens(table, dims.vocabulary, begin=begin, pad=pad)}


def warn_of_ignored(source: Path) -> None:
    """Say which keys of the source's files ask for code or for an implementation; nobody here obeys them."""
    for name in FILES:
        path = source / name
        for key in guard.foreign(checkpoint.read_object(path)) if path.is_file() else ():
            warn(f"{name}: key {key} is ignored and not written: nothing of a checkpoint is run as code here")


def _warn(source: Path, table: Mapping[str, Any], vocabulary: int) -> None:
    own = generation.file_of(source).name
    for name in dict.fromkeys(("config.json", own)):
        for token in generation.outside(checkpoint.read_object(source / name), vocabulary):
            warn(f"{name}: {token} lies outside the vocabulary of {vocabulary}: no text can hold it, and it is "
                "not looked up")  # fmt: skip
    if not generation.ids(table.get("eos_token_id"), vocabulary):
        warn(f"{own} names no end token (eos_token_id), so no text ends before its limit, as in transformers; "
            "write one there if that is not meant")  # fmt: skip
    unused = [key for key in generation.SAMPLING if table.get(key) is not None and table.get("do_sample") is not True]
    if unused:
        say(f"generation_config.json: {', '.join(unused)} left out: without do_sample they say nothing")
