"""Test what the stage refuses in a checkpoint: sizes, tensors, files beside them, licence."""

from __future__ import annotations

import json
import os
import re
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from safetensors import safe_open

from convert import source
from model import checkpoint as inspection
from model.architectures.gpt2 import config as gpt2
from pipeline.errors import InputError
from pipeline.recipe.recipe import read_recipe
from tests.support import refused_checkpoint
from tests.support.headers import header_mutations, mutations
from tests.support.refused_checkpoint import BAD_TENSORS, Refuse
from tests.support.tiny_checkpoints import (
    SIZES,
    Tensors,
    assert_same,
    convert,
    converted,
    edit_config,
    edit_tensors,
    write_checkpoint,
    write_recipe,
)

checkpoint, refuse = refused_checkpoint.checkpoint, refused_checkpoint.refuse


@pytest.mark.parametrize(("change", "what"), BAD_TENSORS.values(), ids=BAD_TENSORS.keys())
def test_tensors_are_what_the_config_asks_for(
    checkpoint: Path, refuse: Refuse, change: Callable[[Tensors], object], what: str
) -> None:
    edit_tensors(checkpoint, change)
    assert what in refuse()


def test_vocabulary_of_config_and_embedding_differ(checkpoint: Path, refuse: Refuse) -> None:
    edit_config(checkpoint, vocab_size=66, bos_token_id=0, eos_token_id=0)
    assert "tensor transformer.wte.weight has shape (67, 32), config.json asks for (66, 32)" in refuse()


def test_vocabulary_of_tokenizer_is_smaller(tmp_path: Path, refuse: Refuse) -> None:
    write_checkpoint(tmp_path / "checkpoint", vocab_size=70)
    shutil.copytree(write_checkpoint(tmp_path / "small"), tmp_path / "checkpoint", dirs_exist_ok=True, ignore=_no_model)
    assert "tokenizer has 67 tokens, config key vocab_size is 70" in refuse()
    artifact = converted(tmp_path / "checkpoint", tmp_path / "build", "padded_vocabulary = true")
    assert_same(tmp_path / "checkpoint", artifact)


def test_vocabulary_of_tokenizer_is_larger(tmp_path: Path, refuse: Refuse) -> None:
    write_checkpoint(tmp_path / "checkpoint", vocab_size=61)
    shutil.copytree(write_checkpoint(tmp_path / "large"), tmp_path / "checkpoint", dirs_exist_ok=True, ignore=_no_model)
    assert re.search("token .* has id 6[1-6], config key vocab_size is 61", refuse("padded_vocabulary = true"))


def _no_model(_directory: str, names: list[str]) -> list[str]:
    return [name for name in names if name in ("config.json", "model.safetensors", "generation_config.json")]


@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.json", "merges.txt"])
def test_tokenizer_file_is_an_lfs_pointer(checkpoint: Path, refuse: Refuse, name: str) -> None:
    (checkpoint / name).write_text("version https://git-lfs.github.com/spec/v1\n")
    message = refuse()
    assert "Git LFS pointer, not content" in message
    assert name in message


def test_tokenizer_is_broken(checkpoint: Path, refuse: Refuse) -> None:
    (checkpoint / "tokenizer.json").write_text('{"model": 3}')
    assert re.search(r"where: .*tokenizer\.json\n  to do: .*restore the file", refuse())


@pytest.mark.parametrize("name", ["generation_config.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", ["[]", "[1]", "{", "7"])
def test_config_beside_the_model_is_broken(checkpoint: Path, refuse: Refuse, name: str, content: str) -> None:
    (checkpoint / name).write_text(content)
    refuse()


@pytest.mark.parametrize("key", gpt2.SIZES)
@pytest.mark.parametrize("value", [0, -1, 2**24, 2**62, 10**30, 2.0, "2", True, None, [2]])
def test_impossible_size_is_named(key: str, value: object) -> None:
    with pytest.raises(InputError) as caught:
        gpt2.dimensions({**SIZES, key: value}, "config.json")
    assert caught.value.what == f"config key {key} is {value!r}"
    assert caught.value.where == "config.json"
    assert "whole number from 1 to 16777215" in caught.value.hint


ABSURD: dict[str, tuple[dict[str, int], str]] = {
    "layers": ({"n_layer": 2**24 - 1}, "parameters take"),
    "width": ({"n_embd": 2**24 - 1, "n_head": 1}, "parameters take"),
    "inner": ({"n_inner": 2**24 - 1}, "parameters take"),
    "vocabulary": ({"vocab_size": 2**24 - 1, "n_embd": 128}, "parameters take"),
    "context": ({"n_positions": 2**23}, "GiB of memory, this machine has"),
}


@pytest.mark.parametrize(("changes", "what"), ABSURD.values(), ids=ABSURD.keys())
def test_absurd_sizes_are_refused_without_allocating(
    checkpoint: Path, tmp_path: Path, changes: dict[str, int], what: str
) -> None:
    edit_config(checkpoint, **changes)
    recipe = read_recipe(write_recipe(tmp_path))
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=what) as caught:
            source.resolve(recipe, checkpoint, None, tmp_path / "build" / "source")
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()
    assert caught.value.where == str(checkpoint)


def test_too_little_memory_is_said_before_loading(refuse: Refuse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": 1000}.__getitem__)
    assert "GiB of memory, this machine has 0.0" in refuse()


EXPECT: dict[str, tuple[str, str, str]] = {
    "layers": ("layers = 12", "layers of the source is 2", "12"),
    "hidden": ("hidden = 768", "hidden of the source is 32", "768"),
    "parameters": ("parameters = 5", "parameters of the source is 28", "5"),
    "tied": ("tied = false", "tied of the source is True", "False"),
    "license": ('license = "mit"', "license of the source is 'apache-2.0'", "'mit'"),
}


@pytest.mark.parametrize(("line", "what", "wanted"), EXPECT.values(), ids=EXPECT.keys())
def test_unexpected_source_names_the_field(refuse: Refuse, line: str, what: str, wanted: str) -> None:
    message = refuse(f"[source.expect]\n{line}")
    assert what in message
    assert f"source.expect says {wanted}" in message


CARDS = {
    "gone": (None, "license of the source is None"),
    "no_front_matter": ("# Tiny\n", "license of the source is None"),
    "no_license": ("---\ntags: [a]\n---\n", "license of the source is None"),
    "list": ("---\nlicense: [mit]\n---\n", "license of the source is None"),
    "no_yaml": ("---\nlicense: [mit\n---\n", "front matter is not YAML"),
    "no_table": ("---\n- license\n---\n", "front matter is not YAML"),
}


@pytest.mark.parametrize(("card", "what"), CARDS.values(), ids=CARDS.keys())
def test_license_must_be_stated(checkpoint: Path, refuse: Refuse, card: str | None, what: str) -> None:
    (checkpoint / "README.md").unlink()
    if card is not None:
        (checkpoint / "README.md").write_text(card)
    assert what in refuse('[source.expect]\nlicense = "apache-2.0"')


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=mutations(json.dumps({"model_type": "gpt2", **SIZES, "n_inner": None, "layer_norm_epsilon": 1e-5}).encode())
)
def test_mutated_config_has_dimensions_or_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    try:
        dims = gpt2.dimensions(inspection.read_config(path), path)
    except InputError as error:
        assert error.where == str(path)
    else:
        assert min(dims.layers, dims.hidden, dims.heads, dims.context, dims.vocabulary) > 0


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=header_mutations())
def test_what_the_inspection_accepts_the_library_opens(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    try:
        tensors = inspection.read_header(path)
    except InputError:
        return
    with safe_open(path, framework="pt") as opened:
        assert {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()} == {  # noqa: SIM118
            name: tensor.shape for name, tensor in tensors.items()
        }


@pytest.mark.parametrize(
    ("written", "warned"), [("99.1.0", True), ("4.57.6", False), ("5.0.0.dev0", False), ("", False), (None, False)]
)
def test_a_checkpoint_of_a_newer_transformers_is_named(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str], written: str | None, warned: bool
) -> None:
    edit_config(checkpoint, transformers_version=written)
    assert convert(checkpoint, tmp_path / "build") == 0
    assert ("WARNING: transformers 99.1.0 wrote this checkpoint" in capsys.readouterr().err) == warned
