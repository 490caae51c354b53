"""Weights in a pickle: refused unless the recipe allows it, never run as code, and held to the same contract."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.support import refused_checkpoint
from tests.support.refused_checkpoint import BAD_TENSORS, Refuse
from tests.support.tiny_checkpoints import Tensors, assert_same, converted, edit_tensors

checkpoint, refuse = refused_checkpoint.checkpoint, refused_checkpoint.refuse


def to_pickle(checkpoint: Path, **more: object) -> None:
    tensors = load_file(checkpoint / "model.safetensors")
    (checkpoint / "model.safetensors").unlink()
    torch.save({**tensors, **more}, checkpoint / "pytorch_model.bin")


def test_pickle_is_refused_then_allowed_by_the_recipe(checkpoint: Path, tmp_path: Path, refuse: Refuse) -> None:
    twin = shutil.copytree(checkpoint, tmp_path / "twin")
    to_pickle(checkpoint)
    assert "source.allow_pickle = true" in refuse()
    assert_same(twin, converted(checkpoint, tmp_path / "build", "allow_pickle = true"))


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("allowed", [True, False])
def test_pickle_never_runs_code(checkpoint: Path, tmp_path: Path, refuse: Refuse, allowed: bool) -> None:
    mark = tmp_path / "code-ran"
    to_pickle(checkpoint, evil=Evil(mark))
    message = refuse("allow_pickle = true" if allowed else "")
    assert ("holds more than tensors" if allowed else "weights are a pickle") in message
    assert "weights_only" not in message
    assert not mark.exists()
    torch.load(checkpoint / "pytorch_model.bin", weights_only=False)  # the file is as evil as it is meant to be
    assert mark.exists()


PICKLES = {key: BAD_TENSORS[key] for key in ("missing", "extra", "shape", "float64", "nan")}


@pytest.mark.parametrize(("change", "what"), PICKLES.values(), ids=PICKLES.keys())
def test_tensors_of_a_pickle(checkpoint: Path, refuse: Refuse, change: Callable[[Tensors], object], what: str) -> None:
    edit_tensors(checkpoint, change)
    to_pickle(checkpoint)
    assert what in refuse("allow_pickle = true")


PICKLED: dict[str, tuple[Any, str]] = {
    "list": ([torch.ones(1)], "the pickle holds a list, not tensors by name"),
    "text": ({"transformer.wte.weight": "x"}, "'transformer.wte.weight' in the pickle is no tensor"),
    "number": ({1: torch.ones(1)}, "1 in the pickle is no tensor"),
    "nested": ({"state_dict": {"a": torch.ones(1)}}, "'state_dict' in the pickle is no tensor"),
}


@pytest.mark.parametrize(("value", "what"), PICKLED.values(), ids=PICKLED.keys())
def test_pickle_of_something_else(checkpoint: Path, refuse: Refuse, value: Any, what: str) -> None:
    (checkpoint / "model.safetensors").unlink()
    torch.save(value, checkpoint / "pytorch_model.bin")
    assert what in refuse("allow_pickle = true")


def test_truncated_pickle(checkpoint: Path, refuse: Refuse) -> None:
    to_pickle(checkpoint)
    path = checkpoint / "pytorch_model.bin"
    path.write_bytes(path.read_bytes()[:5000])
    assert "the pickle is damaged" in refuse("allow_pickle = true")
