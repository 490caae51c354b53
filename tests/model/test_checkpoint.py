"""Checkpoints as strangers send them: whatever is wrong is found before a library opens the file, and named."""

from __future__ import annotations

import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from model.checkpoint import Checkpoint, Tensor, inspect, read_config, read_header
from pipeline.errors import BROKEN_INPUT, InputError
from tests.support.headers import HEADER, header_mutations, mutations, pack

CONFIG: dict[str, Any] = {"model_type": "gpt2", "n_layer": 1, "n_embd": 2, "vocab_size": 3}
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
AGAIN = "fetch the checkpoint again"


def changed(name: str, **fields: Any) -> dict[str, Any]:
    return {**HEADER, name: {**HEADER[name], **fields}}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "model.safetensors").write_bytes(pack(HEADER))
    return tmp_path


def refusal(directory: Path, **options: bool) -> InputError:
    with pytest.raises(InputError) as caught:
        inspect(directory, **options)
    assert caught.value.exit_code == BROKEN_INPUT
    assert caught.value.hint
    return caught.value


def test_a_sound_checkpoint(directory: Path) -> None:
    tensors = {"wte.weight": Tensor("F32", (3, 2)), "ln.bias": Tensor("BF16", (2,)), "nothing": Tensor("F32", (0, 7))}
    assert inspect(directory) == Checkpoint(directory, CONFIG, tensors, ("model.safetensors",))
    assert [tensor.elements for tensor in tensors.values()] == [6, 2, 0]
    (directory / "model.safetensors").write_bytes(pack(dict(reversed(HEADER.items()))))
    assert inspect(directory).tensors == tensors


BAD_FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "a file of 0 bytes"),
    "seven_bytes": (bytes(7), "a file of 7 bytes"),
    "header_longer_than_file": (pack(HEADER, length=10**6), "safetensors header of 1000000 bytes in a file of"),
    "header_of_2_to_the_63": (pack(HEADER, length=2**63), "safetensors header of 9223372036854775808 bytes"),
    "truncated": (pack(HEADER)[:-1], "tensors take 28 bytes, the file has 27"),
    "too_long": (pack(HEADER) + b"\0", "tensors take 28 bytes, the file has 29"),
    "lfs_pointer": (LFS, "Git LFS pointer, not content"),
    "html": (b"<!DOCTYPE html><html>" * 9, "safetensors header of"),
    "header_is_no_json": (pack(b"{]"), "invalid JSON"),
    "header_is_no_utf8": (pack(b'{"\xff": 1}'), "invalid JSON"),
    "header_is_a_list": (pack([]), "safetensors header is not a JSON object"),
    "space_before_the_header": (pack(b" " + json.dumps(HEADER).encode()), "safetensors header is not a JSON object"),
    "duplicate_tensor": (pack(json.dumps(HEADER).replace("ln.bias", "nothing").encode()), "duplicate key 'nothing'"),
    "deep": (pack(b"[" * 10**5), "nested too deeply"),
    "metadata": (pack({**HEADER, "__metadata__": {"format": 1}}), "key __metadata__ does not map text to text"),
    "metadata_is_a_list": (pack({**HEADER, "__metadata__": []}), "key __metadata__ does not map text to text"),
    "no_shape": (pack({"a": {"dtype": "F32", "data_offsets": [0, 28]}}), "tensor a: needs dtype, shape and"),
    "entry_is_a_number": (pack({"a": 1}), "tensor a: needs dtype, shape and data_offsets"),
    "dtype_unknown": (pack(changed("ln.bias", dtype="F31")), "tensor ln.bias: unknown dtype 'F31'"),
    "dtype_is_a_list": (pack(changed("ln.bias", dtype=["F32"])), "tensor ln.bias: unknown dtype ['F32']"),
    "shape_negative": (pack(changed("ln.bias", shape=[-2])), "tensor ln.bias: bad shape [-2]"),
    "shape_of_floats": (pack(changed("ln.bias", shape=[2.0])), "tensor ln.bias: bad shape [2.0]"),
    "shape_of_booleans": (pack(changed("ln.bias", shape=[True])), "tensor ln.bias: bad shape [True]"),
    "shape_is_text": (pack(changed("ln.bias", shape="2")), "tensor ln.bias: bad shape '2'"),
    "shape_of_rank_17": (pack(changed("ln.bias", shape=[2] + [1] * 16)), "tensor ln.bias: bad shape"),
    "shape_absurd": (pack(changed("ln.bias", shape=[2**40, 2**40])), "does not fill its 4 bytes"),
    "shape_beyond_64_bits": (pack(changed("ln.bias", shape=[2**63])), "tensor ln.bias: bad shape"),
    "shape_of_another_size": (pack(changed("ln.bias", shape=[3])), "shape [3] of BF16 does not fill its 4 bytes"),
    "offsets_backwards": (pack(changed("ln.bias", data_offsets=[28, 24])), "tensor ln.bias: bad data_offsets [28, 24]"),
    "offsets_negative": (pack(changed("ln.bias", data_offsets=[-4, 0])), "tensor ln.bias: bad data_offsets [-4, 0]"),
    "three_offsets": (pack(changed("ln.bias", data_offsets=[24, 28, 28])), "tensor ln.bias: bad data_offsets"),
    "overlap": (pack(changed("ln.bias", data_offsets=[20, 24])), "tensor ln.bias overlaps another"),
    "gap": (pack(changed("ln.bias", data_offsets=[26, 30])), "tensor ln.bias leaves a gap before it"),
    "gap_at_the_start": (pack({"a": {"dtype": "U8", "shape": [4], "data_offsets": [24, 28]}}), "tensor a leaves a gap"),
}


@pytest.mark.parametrize(("content", "what"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_broken_weights(directory: Path, content: bytes, what: str) -> None:
    path = directory / "model.safetensors"
    path.write_bytes(content)
    error = refusal(directory)
    assert what in error.what
    assert error.where == str(path)


def test_a_file_that_claims_terabytes_costs_no_memory(directory: Path) -> None:
    entry = {"dtype": "F64", "shape": [2**20, 2**20], "data_offsets": [0, 2**43]}
    (directory / "model.safetensors").write_bytes(pack({"a": entry}))
    tracemalloc.start()
    assert "tensors take 8796093022208 bytes, the file has 28" in refusal(directory).what
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


BAD_CONFIGS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "invalid JSON"),
    "lfs_pointer": (LFS, "Git LFS pointer, not content"),
    "no_json": (b"{'model_type': 'gpt2'}", "invalid JSON"),
    "truncated": (b'{"model_type": "gp', "invalid JSON"),
    "no_utf8": (b'{"model_type": "\xff"}', "invalid JSON"),
    "nan": (b'{"model_type": "gpt2", "x": NaN}', "NaN is not a JSON number"),
    "duplicate_key": (b'{"model_type": "gpt2", "n_head": 1, "n_head": 2}', "duplicate key 'n_head'"),
    "list": (b"[]", "not a JSON object"),
    "no_model_type": (b"{}", "key model_type is missing"),
    "model_type_is_a_number": (b'{"model_type": 2}', "key model_type is missing"),
    "remote_code": (
        b'{"model_type": "gpt2", "auto_map": {"AutoModel": "evil.Model"}}',
        "key auto_map asks to run code",
    ),
}


@pytest.mark.parametrize(("content", "what"), BAD_CONFIGS.values(), ids=BAD_CONFIGS.keys())
def test_broken_config(directory: Path, content: bytes, what: str) -> None:
    (directory / "config.json").write_bytes(content)
    error = refusal(directory)
    assert what in error.what
    assert error.where == str(directory / "config.json")


def test_missing_files(directory: Path) -> None:
    (directory / "model.safetensors").unlink()
    error = refusal(directory)
    assert (error.what, error.where) == ("no weights: model.safetensors not found", str(directory))
    (directory / "config.json").unlink()
    assert refusal(directory).where == str(directory / "config.json")
    assert "not a directory" in refusal(directory / "none").what
    assert "not a directory" in refusal(Path(__file__)).what


def test_pickle_is_refused_unless_the_recipe_allows_it(directory: Path) -> None:
    (directory / "model.safetensors").unlink()
    path = directory / "pytorch_model.bin"
    path.write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    error = refusal(directory)
    assert error.what == "weights are a pickle, which can run code"
    assert error.where == str(path)
    assert "source.allow_pickle = true" in error.hint
    assert inspect(directory, allow_pickle=True) == Checkpoint(directory, CONFIG, None, ("pytorch_model.bin",))
    path.write_bytes(LFS)
    assert "Git LFS pointer" in refusal(directory, allow_pickle=True).what


def test_pickle_beside_safetensors_is_never_looked_at(directory: Path) -> None:
    (directory / "pytorch_model.bin").write_bytes(LFS)
    assert inspect(directory, allow_pickle=True).weight_files == ("model.safetensors",)


ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


@pytest.fixture
def sharded(directory: Path) -> Path:
    (directory / "model.safetensors").unlink()
    (directory / ONE).write_bytes(pack({"a": {"dtype": "U8", "shape": [28], "data_offsets": [0, 28]}}))
    (directory / TWO).write_bytes(pack({"b": {"dtype": "F32", "shape": [7], "data_offsets": [0, 28]}}))
    return directory


def index(directory: Path, places: object, **more: object) -> None:
    table = {"metadata": {"total_size": 56}, "weight_map": places, **more}
    (directory / "model.safetensors.index.json").write_text(json.dumps(table))


def test_shards(sharded: Path) -> None:
    index(sharded, {"a": ONE, "b": TWO})
    found = inspect(sharded)
    assert found.tensors == {"a": Tensor("U8", (28,)), "b": Tensor("F32", (7,))}
    assert found.weight_files == ("model.safetensors.index.json", ONE, TWO)


def test_a_single_file_comes_before_shards_as_in_transformers(sharded: Path) -> None:
    index(sharded, {"a": "../evil.safetensors"})
    (sharded / "model.safetensors").write_bytes(pack(HEADER))
    assert inspect(sharded).weight_files == ("model.safetensors",)


BAD_INDEXES: dict[str, tuple[object, str]] = {
    "missing_shard": ({"a": ONE, "b": "gone.safetensors"}, "shard gone.safetensors is missing"),
    "parent": ({"a": ONE, "b": "../evil.safetensors"}, "shard name '../evil.safetensors' leaves the directory"),
    "absolute": ({"a": ONE, "b": "/evil.safetensors"}, "shard name '/evil.safetensors' leaves the directory"),
    "backslash": ({"a": ONE, "b": "..\\evil.safetensors"}, "leaves the directory"),
    "empty_name": ({"a": ONE, "b": ""}, "shard name '' leaves the directory"),
    "zero_byte": ({"a": ONE, "b": "\0.safetensors"}, "is missing"),
    "endless_name": ({"a": ONE, "b": "x" * 5000 + ".safetensors"}, "is missing"),
    "pickle": ({"a": ONE, "b": "pytorch_model.bin"}, "shard name 'pytorch_model.bin'"),
    "tensor_in_another_shard": ({"a": TWO, "b": TWO}, f"tensor a is not in shard {TWO}"),
    "tensor_nowhere": ({"a": ONE, "b": TWO, "c": TWO}, f"tensor c is not in shard {TWO}"),
    "tensor_not_listed": ({"a": ONE, "z": TWO}, f"tensor b of {TWO} is not listed there"),
    "place_is_a_number": ({"a": 1}, "key weight_map is missing or malformed"),
    "places_are_a_list": ([], "key weight_map is missing or malformed"),
}


@pytest.mark.parametrize(("places", "what"), BAD_INDEXES.values(), ids=BAD_INDEXES.keys())
def test_broken_index(sharded: Path, places: object, what: str) -> None:
    index(sharded, places)
    error = refusal(sharded)
    assert what in error.what
    assert error.where == str(sharded / "model.safetensors.index.json")
    assert error.hint != AGAIN  # a shard's bytes may be right, and its index another's


def test_index_without_metadata_which_transformers_reads(sharded: Path) -> None:
    index(sharded, {"a": ONE, "b": TWO}, metadata=None)
    assert refusal(sharded).what == "key metadata is missing or malformed"


def test_broken_shard_is_named(sharded: Path) -> None:
    index(sharded, {"a": ONE, "b": TWO})
    (sharded / TWO).write_bytes(b"")
    assert refusal(sharded).where == str(sharded / TWO)


def test_file_names_that_collide_in_case(directory: Path) -> None:
    (directory / "Config.json").write_text("{}")
    if len(list(directory.iterdir())) == 2:
        pytest.skip("this file system ignores case")
    error = refusal(directory)
    assert error.what == "file names Config.json and config.json collide"
    assert (error.where, error.hint) == (str(directory), "remove one of them: many file systems hold only one")


def test_file_name_that_is_not_utf8(directory: Path) -> None:
    (directory / os.fsdecode(b"\xff.txt")).touch()
    error = refusal(directory)
    assert error.what == r"file name '\udcff.txt' is not UTF-8"
    assert (error.where, error.hint) == (str(directory), "rename the file")


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=header_mutations())
def test_mutated_header_is_read_or_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    try:
        tensors = read_header(path)
    except InputError as error:
        assert error.where == str(path)
    else:
        assert all(tensor.elements >= 0 for tensor in tensors.values())


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=mutations(json.dumps(CONFIG).encode()))
def test_mutated_config_is_read_or_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    try:
        config = read_config(path)
    except InputError as error:
        assert error.where == str(path)
    else:
        assert isinstance(config["model_type"], str)
