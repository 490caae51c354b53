"""Weights beside the graph: where one file cannot hold them, found by onnxruntime, told of in config.json."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model import external_data, transformersjs_config
from model.external_data import open_model, save, size, weight_bytes
from model.session import open_session
from pipeline.recipe.recipe import LARGEST_FILE
from pipeline.variants import data_file
from tests.support.tiny_graph import ALIGNED, batch, tiny_model
from tests.support.tiny_graph import run as infer

GRAPHS = st.sets(st.sampled_from(["model.onnx", "model_q4.onnx", "model_fp16.onnx"]))


@pytest.fixture(name="whole", scope="session")
def written_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    onnx.save(tiny_model(ALIGNED), path)
    return path


def logits(session: object) -> np.ndarray:
    return infer(session, *batch(ALIGNED))[0]


def test_weights_lie_beside_only_where_they_are_too_many(whole: Path, tmp_path: Path) -> None:
    model = ir.load(whole)
    for above, beside in ((weight_bytes(model) - 1, True), (weight_bytes(model), False)):
        path = tmp_path / str(above) / "model.onnx"
        path.parent.mkdir()
        save(model, path, above)
        assert data_file(path).exists() is beside
        assert [entry.name for entry in path.parent.iterdir() if entry not in (path, data_file(path))] == []
        assert np.array_equal(logits(open_session(path)), logits(open_session(whole)))
    assert path.read_bytes() == ir.to_proto(model).SerializeToString()


def test_what_was_read_from_beside_goes_into_one_file_again(whole: Path, tmp_path: Path) -> None:
    save(ir.load(whole), tmp_path / "model.onnx", 0)
    split = ir.load(tmp_path / "model.onnx")
    assert size(split) == pytest.approx(size(ir.load(whole)), rel=0.02)
    assert np.array_equal(logits(open_model(split)), logits(open_session(whole)))
    (tmp_path / "again").mkdir()
    save(split, tmp_path / "again" / "model.onnx", LARGEST_FILE)
    assert [path.name for path in (tmp_path / "again").iterdir()] == ["model.onnx"]
    assert np.array_equal(logits(open_session(tmp_path / "again" / "model.onnx")), logits(open_session(whole)))


def test_a_model_too_large_for_memory_is_opened_by_way_of_the_disk(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(external_data, "LARGEST_FILE", 1000)
    assert np.array_equal(logits(open_model(ir.load(whole))), logits(open_session(whole)))


@given(st.dictionaries(st.sampled_from(["wasm", "webgpu"]), st.sampled_from(["q4", "int8"])), GRAPHS)
def test_config_tells_of_each_graph_and_of_all_in_one_directory(defaults: dict[str, str], beside: set[str]) -> None:
    plain = transformersjs_config.with_defaults({"model_type": "gpt2"}, defaults)
    names = ["model.onnx", "model_q4.onnx", "model_fp16.onnx"]
    own = [transformersjs_config.with_data(plain, name, beside=name in beside) for name in names]
    told = [config.get("transformers.js_config", {}).get("use_external_data_format") for config in own]
    assert told == [{name: True} if name in beside else None for name in names]
    merged = transformersjs_config.merged(own)
    assert merged.get("transformers.js_config", {}).get("use_external_data_format", {}) == dict.fromkeys(beside, True)
    assert transformersjs_config.without_data(merged) == plain


def test_weights_beside_a_graph_are_part_of_what_tells_it_apart(tmp_path: Path) -> None:
    graph = tmp_path / "model.onnx"
    graph.write_bytes(b"graph")
    alone = external_data.digests(graph)
    data_file(graph).write_bytes(b"weights")
    beside = external_data.digests(graph)
    data_file(graph).write_bytes(b"others")
    assert (len(alone), len(beside)) == (1, 2)
    assert beside[0] == alone[0]
    assert external_data.digests(graph) != beside
