"""A graph in place answers as the one it is made from, whose weights it reads, whether its cache is bound or grows."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model import external_data, in_place, stored_bytes
from model.session import open_session, options, stays_in_place
from pipeline.errors import InputError
from quantize.rewrite.graph import clean
from quantize.schemes import float16, rtn
from tests.conftest import EMBEDDED
from tests.support import stock_export
from tests.support.random_decoder import LLAMA, PLANS, Source, batches, random_decoder, run
from tests.support.tiny_graph import context
from verify.candidate.in_place import run as run_in_place

GPT2 = {"model_type": "gpt2", "vocab_size": 90, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}
NEOX = {**LLAMA, "model_type": "gpt_neox", "rotary_pct": 0.25, "use_parallel_residual": True}
MODELS: dict[str, dict[str, Any]] = {
    "gpt2": GPT2,
    "gpt2_scaled_by_layer": {**GPT2, "scale_attn_by_inverse_layer_idx": True},
    "llama": LLAMA,
    "heads_of_their_own": {**LLAMA, "num_key_value_heads": 4},
    "one_key": {**LLAMA, "num_key_value_heads": 1},
    "wide_heads": {**LLAMA, "head_dim": 24},
    "window": {**LLAMA, "model_type": "mistral", "sliding_window": 5},
    "window_of_one": {**LLAMA, "model_type": "mistral", "sliding_window": 1, "num_key_value_heads": 4},
    "norms_of_heads": {**LLAMA, "model_type": "qwen3", "head_dim": 16},
    "neox": {key: value for key, value in NEOX.items() if key != "num_key_value_heads"},
}


@dataclass(frozen=True)
class Bound:
    """A session that is run with past and present in one buffer, and looks like any other."""

    session: Any

    def get_outputs(self) -> Any:
        return self.session.get_outputs()

    def run(self, names: Sequence[str], feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        found = run_in_place(self.session, names, {name: np.ascontiguousarray(feed) for name, feed in feeds.items()})
        return [found[name] for name in names]


def write(source: Source, place: Path, form: str = "fused", *steps: Any, above: int = 10**9) -> tuple[Path, Path]:
    """A finished graph in a file, and the one in place beside it."""
    model = getattr(source.own, form).build(source)
    model.graph.name = "main"
    for scheme, chosen in steps:
        scheme.apply(model, chosen, context(source.dims))
    clean(model)
    graph, second = place / "model.onnx", place / "model_in_place.onnx"
    external_data.save(model, graph, above)
    in_place.write(graph, second, source.dims)
    return graph, second


def hold(source: Source, graph: Path, second: Path, allowed: float) -> None:
    """Hold a graph in place to the one it is made from, in batches and pieces, at both levels, bound and growing."""
    for level in ("disable_all", "enable_all"):
        first = open_session(graph, options(level, threads=1))
        session = open_session(second, options(level, threads=1))
        assert stays_in_place(session)
        assert not stays_in_place(first)
        for ids, mask, positions in batches():
            for plan in PLANS:
                asked = (source.dims, ids, mask, positions, plan)
                right, cache = run(first, *asked)
                bound, kept = run(Bound(session), *asked)
                grown, _ = run(session, *asked)
                real = mask == 1
                assert np.abs(bound - right)[real].max() <= allowed
                np.testing.assert_array_equal(bound[real], grown[real])
                for name, value in cache.items():
                    assert np.abs(kept[name] - value).swapaxes(1, 2)[real].max() <= allowed, name


@pytest.mark.parametrize("form", ["fused", "standard"])
@pytest.mark.parametrize("config", MODELS.values(), ids=MODELS)
def test_it_answers_as_the_graph_that_it_is_made_from(config: dict[str, Any], form: str, tmp_path: Path) -> None:
    source = random_decoder(config)
    hold(source, *write(source, tmp_path, form), allowed=2e-5)


@pytest.mark.parametrize("config", [GPT2, LLAMA], ids=["gpt2", "llama"])
def test_a_graph_of_float16_and_codes_keeps_its_arithmetic(config: dict[str, Any], tmp_path: Path) -> None:
    source = random_decoder(config)
    steps = (rtn, rtn.Options(8, block=16, accuracy_level=0)), (float16, float16.Options())
    hold(source, *write(source, tmp_path, "fused", *steps), allowed=2e-2)


def test_weights_lie_once_in_the_finished_file_or_beside_it(tmp_path: Path) -> None:
    source = random_decoder({**GPT2, "n_embd": 128, "vocab_size": 900})
    for above, weights in ((10**9, "model.onnx"), (0, "model.onnx_data")):
        place = tmp_path / weights
        place.mkdir()
        graph, second = write(source, place, above=above)
        table = onnx.load(second, load_external_data=False).graph.initializer
        named = {entry.value for t in table for entry in t.external_data if entry.key == "location"}
        assert named == {weights}
        assert sum(len(t.raw_data) for t in table) < 8192
        hold(source, graph, second, allowed=2e-5)


@stock_export.missing
def test_a_graph_that_others_wrote_is_refused(tmp_path: Path) -> None:
    graph = stock_export.export(EMBEDDED.with_suffix(""), tmp_path / "stock")
    source = random_decoder(GPT2)
    with pytest.raises(InputError, match="attention of layer 0 is not as this project writes it"):
        in_place.write(graph, tmp_path / "second.onnx", source.dims)
    assert not (tmp_path / "second.onnx").exists()


@settings(max_examples=60, deadline=None)
@given(
    tensors=st.dictionaries(st.text(min_size=1, max_size=9), st.binary(min_size=1, max_size=300), max_size=6),
    documented=st.text(max_size=200),
)
def test_every_tensor_is_found_where_it_lies(
    tensors: dict[str, bytes], documented: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    made = [
        onnx.TensorProto(name=name, data_type=onnx.TensorProto.UINT8, dims=[len(data)], raw_data=data)
        for name, data in tensors.items()
    ]
    listed = onnx.TensorProto(name="listed", data_type=onnx.TensorProto.FLOAT, dims=[2], float_data=[1, 2])
    graph = onnx.helper.make_graph([], "g", [], [], [*made, listed], doc_string=documented)
    path = tmp_path_factory.mktemp("stored") / "m.onnx"
    onnx.save(onnx.helper.make_model(graph), path)
    content = path.read_bytes()
    found = {name: content[at : at + length] for name, (at, length) in stored_bytes.places(path).items()}
    assert found == tensors


def test_a_file_that_is_cut_off_is_no_onnx_file(tmp_path: Path) -> None:
    graph, _ = write(random_decoder(GPT2), tmp_path)
    cut = tmp_path / "cut.onnx"
    shutil.copyfile(graph, cut)
    with cut.open("r+b") as file:
        file.truncate(graph.stat().st_size - 5)
    with pytest.raises(ValueError, match="beyond byte"):
        stored_bytes.places(cut)


def test_the_stored_places_are_of_this_model(tmp_path: Path) -> None:
    graph, _ = write(random_decoder(GPT2), tmp_path)
    weights = ir.load(graph).graph.initializers
    assert stored_bytes.places(graph).keys() == weights.keys()
