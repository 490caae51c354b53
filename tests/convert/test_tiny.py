"""Tiny random GPT-2 checkpoints with a tokenizer, converted by the stage itself, for the other tests of convert."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy.typing as npt
import pytest
import tokenizers

from tests.support.tiny_checkpoints import assert_same, converted, write_checkpoint, write_tokenizer

Array = npt.NDArray[Any]


@pytest.mark.parametrize("size", [61, 67, 96])
def test_tokenizer_has_the_size_asked_for(tmp_path: Path, size: int) -> None:
    write_tokenizer(tmp_path, size)
    assert tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json")).get_vocab_size() == size


def test_the_comparison_sees_a_wrong_weight(tmp_path: Path) -> None:
    artifact = converted(write_checkpoint(tmp_path / "a"), tmp_path / "build")
    other = write_checkpoint(tmp_path / "b", layer_norm_epsilon=1e-3)
    with pytest.raises(AssertionError, match="ORT_DISABLE_ALL"):
        assert_same(other, artifact)
