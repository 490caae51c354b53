"""Load a checkpoint in PyTorch: float32, transformers' own eager attention."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from model import checkpoint
from model.settings import configuration, said
from pipeline.errors import InputError


def load(directory: Path, *, allow_pickle: bool) -> tuple[Any, Mapping[str, Any]]:
    """The model, ready to be asked, and what transformers says of its tensors. InputError for one that does not load.

    Whether every tensor was found is the caller's to judge.
    """
    found = checkpoint.inspect(directory, allow_pickle=allow_pickle)
    own = configuration(found.config, directory / "config.json")
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            directory, config=own, dtype=torch.float32, **checkpoint.loading(allow_pickle=allow_pickle)
        )
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        # safetensors may end in a panic in Rust, which is no Exception.
        hint = "run convert on it: it names what is wrong"
        raise InputError(f"transformers cannot load it: {said(error)}", where=directory, hint=hint) from error
    model, told = loaded
    return model.eval(), told


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let PyTorch compute on one thread each time it is called, and afterwards on as many as before.

    The order of its sums depends on how many there are; and for tensors of a test's size more are slower.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
