"""Planted faults: each must make `verify --candidate` exit with 1 and name a check that can see it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from artifact.command import run
from artifact.signature import model_file
from tests.conftest import EMBEDDED, ROOT
from verify.__main__ import main

SOURCE = ROOT / "recipes" / "embedded"
HIDDEN, HEADS = 128, 4
Fault = Callable[[onnx.ModelProto], None]


def weight(model: onnx.ModelProto, name: str) -> np.ndarray:
    (tensor,) = (t for t in model.graph.initializer if t.name == name)
    return numpy_helper.to_array(tensor).copy()


def store(model: onnx.ModelProto, name: str, value: np.ndarray) -> None:
    (tensor,) = (t for t in model.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(value, name))


def constant(model: onnx.ModelProto, name: str, value: Any) -> str:
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return name


def consumer(model: onnx.ModelProto, op: str, value: str) -> onnx.NodeProto:
    found: onnx.NodeProto = next(n for n in model.graph.node if n.op_type == op and value in n.input)
    return found


def insert(model: onnx.ModelProto, before: onnx.NodeProto, *nodes: onnx.NodeProto) -> None:
    at = list(model.graph.node).index(before)
    for offset, node in enumerate(nodes):
        model.graph.node.insert(at + offset, node)


def replace_input(node: onnx.NodeProto, old: str, new: str) -> None:
    node.input[list(node.input).index(old)] = new


def perturbed_row(model: onnx.ModelProto) -> None:
    name = "transformer.h.2.mlp.c_fc.weight"
    value = weight(model, name)
    value[17] *= 1.02
    store(model, name, value)


def heads_swapped(model: onnx.ModelProto) -> None:
    name, width = "transformer.h.1.attn.c_attn.weight", HIDDEN // HEADS
    value = weight(model, name)
    value[:, : 2 * width] = np.roll(value[:, : 2 * width], width, axis=1)
    store(model, name, value)


def key_and_value_swapped(model: onnx.ModelProto) -> None:
    for part in ("weight", "bias"):
        name = f"transformer.h.0.attn.c_attn.{part}"
        query, key, value = np.split(weight(model, name), 3, axis=-1)
        store(model, name, np.concatenate([query, value, key], axis=-1))


def mask_ignored(model: onnx.ModelProto) -> None:
    (both,) = (n for n in model.graph.node if n.op_type == "And")
    both.input[1] = both.input[0]


def positions_ignored(model: onnx.ModelProto) -> None:
    """Positions 0, 1, 2, ... whatever position_ids says: right for a full pass of one unpadded row."""
    gather = consumer(model, "Gather", "position_ids")
    counted = helper.make_node("CumSum", ["ones", constant(model, "axis_one", np.int64(1))], ["counted"], exclusive=1)
    ones = helper.make_node("Sub", ["position_ids", "position_ids"], ["zeros"])
    plus = helper.make_node("Add", ["zeros", constant(model, "one", np.int64(1))], ["ones"])
    insert(model, gather, ones, plus, counted)
    replace_input(gather, "position_ids", "counted")


def past_off_by_one(model: onnx.ModelProto) -> None:
    """Positions one too high whenever there is a past."""
    gather = consumer(model, "Gather", "position_ids")
    shape = helper.make_node("Shape", ["past_key_values.0.key"], ["past_shape"], start=2, end=3)
    some = helper.make_node("Min", ["past_shape", constant(model, "one", np.array([1], np.int64))], ["some_past"])
    moved = helper.make_node("Add", ["position_ids", "some_past"], ["moved"])
    top = helper.make_node("Min", ["moved", constant(model, "last", np.array([255], np.int64))], ["capped"])
    insert(model, gather, shape, some, moved, top)
    replace_input(gather, "position_ids", "capped")


def causal_mask_off_by_one(model: onnx.ModelProto) -> None:
    (compare,) = (n for n in model.graph.node if n.op_type == "LessOrEqual")
    later = helper.make_node("Add", [compare.input[1], constant(model, "one", np.int64(1))], ["later"])
    insert(model, compare, later)
    compare.input[1] = "later"


def exact_gelu(model: onnx.ModelProto) -> None:
    """erf(x / sqrt 2) in the place of the tanh: differs from gelu_new by less than 5e-4."""
    for layer in range(6):
        tanh = next(n for n in model.graph.node if n.op_type == "Tanh" and f"h.{layer}/" in n.name)
        fully = f"/transformer/h.{layer}/mlp/c_fc/Add_output_0"
        root = constant(model, f"root_{layer}", np.float32(2**-0.5))
        insert(model, tanh, helper.make_node("Mul", [fully, root], [f"scaled_{layer}"]))
        tanh.op_type, tanh.input[0] = "Erf", f"scaled_{layer}"


def large_epsilon(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        if node.op_type == "LayerNormalization":
            (epsilon,) = (a for a in node.attribute if a.name == "epsilon")
            epsilon.f = 1e-3


def layer_dropped(model: onnx.ModelProto) -> None:
    """Everything after block 3 reads what block 3 read."""
    output, before = "/transformer/h.3/Add_1_output_0", "/transformer/h.2/Add_1_output_0"
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            if name == output:
                node.input[i] = before


def embedding_row_zeroed(model: onnx.ModelProto) -> None:
    value = weight(model, "transformer.wte.weight")
    value[1234] = 0
    store(model, "transformer.wte.weight", value)


def weight_not_a_number(model: onnx.ModelProto) -> None:
    value = weight(model, "transformer.wpe.weight")
    value[250, 3] = np.nan
    store(model, "transformer.wpe.weight", value)


def last_position_wrong(model: onnx.ModelProto) -> None:
    """Only the very last position of the context: nothing shorter shows it."""
    value = weight(model, "transformer.wpe.weight")
    value[255] = value[254]
    store(model, "transformer.wpe.weight", value)


def cache_of_one_layer_stale(model: onnx.ModelProto) -> None:
    """present.5.value returns what present.5.key should."""
    value = next(n for n in model.graph.node if "present.5.value" in n.output)
    key = next(n for n in model.graph.node if "present.5.key" in n.output)
    value.input[0], value.input[1] = "past_key_values.5.value", key.input[1]


def batch_axis_renamed(model: onnx.ModelProto) -> None:
    for port in model.graph.input:
        if port.name == "input_ids":
            port.type.tensor_type.shape.dim[0].dim_param = "batch"


def opset_too_new(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 22
    model.ir_version = 11


def embedding_twice(model: onnx.ModelProto) -> None:
    transpose = consumer(model, "Transpose", "transformer.wte.weight")
    store_name = constant(model, "lm_head", weight(model, "transformer.wte.weight"))
    transpose.input[0] = store_name


# fault -> the checks of which at least one must fail
GRAPHS: dict[Fault, set[str]] = {
    perturbed_row: {"logits", "divergence"},
    heads_swapped: {"logits"},
    key_and_value_swapped: {"logits", "cache"},
    mask_ignored: {"logits"},
    positions_ignored: {"logits", "cache"},
    past_off_by_one: {"cache"},
    causal_mask_off_by_one: {"logits"},
    exact_gelu: {"logits"},
    large_epsilon: {"logits"},
    layer_dropped: {"logits"},
    embedding_row_zeroed: {"logits"},
    weight_not_a_number: {"structure"},
    last_position_wrong: {"logits", "cache"},
    cache_of_one_layer_stale: {"cache", "logits"},
    batch_axis_renamed: {"structure"},
    opset_too_new: {"structure"},
    embedding_twice: {"structure"},
}


# The embedded recipe with shorter work and the same tolerances, so that thirty faults take minutes.
SHORTER = {
    'path = "embedded"': f'path = "{SOURCE}"',
    'text = "text/': f'text = "{EMBEDDED.parent}/text/',
    "beam_prompts = 4": "beam_prompts = 1\nbeam_tokens = 6\nnew_tokens = 12\nprompts = [5, 9]",
    "chunks = 32": "chunks = 4\n\n[verify.cache]\nlength = 20\nprompt = 9\nsplits = 2",
}


def shorter_recipe(home: Path) -> Path:
    text = EMBEDDED.read_text()
    for old, new in SHORTER.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path = home / "recipe.toml"
    path.write_text(text)
    return path


def verdict_of(candidate: Path, home: Path, variant: str = "fp32") -> tuple[int, dict[str, Any]]:
    arguments = [str(shorter_recipe(home)), "--candidate", str(candidate), "--variant", variant]
    code = run(main, [*arguments, "--source", str(SOURCE), "--build", str(home)])
    return code, json.loads((home / "embedded" / "candidate-report" / "report.json").read_text())


def failing(report: dict[str, Any]) -> set[str]:
    return {result["check"] for result in report["results"] if not result["passed"]}


@pytest.fixture
def files(build: Path, tmp_path: Path) -> Path:
    """A copy of the fp32 artifact's files, to plant faults in."""
    return Path(shutil.copytree(build / "embedded" / "fp32", tmp_path / "candidate"))


@pytest.mark.slow
def test_the_unharmed_candidate_passes(files: Path, tmp_path: Path) -> None:
    code, report = verdict_of(files / "onnx" / "model.onnx", tmp_path)
    assert (code, failing(report), report["verdict"]) == (0, set(), "passed")


@pytest.mark.slow
@pytest.mark.parametrize("fault", GRAPHS, ids=lambda fault: fault.__name__)
def test_a_fault_in_the_graph_is_caught(fault: Fault, files: Path, tmp_path: Path) -> None:
    path = files / "onnx" / "model.onnx"
    model = onnx.load(path)
    fault(model)
    onnx.save(model, path)
    code, report = verdict_of(path, tmp_path)
    assert code == 1
    assert failing(report) & GRAPHS[fault], f"caught only by {failing(report)}"


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["q8", "bnb4"])
@pytest.mark.parametrize(
    "fault",
    [mask_ignored, positions_ignored, past_off_by_one, causal_mask_off_by_one, large_epsilon, layer_dropped],
    ids=lambda fault: fault.__name__,
)
def test_a_fault_in_a_quantized_graph_is_caught(fault: Fault, variant: str, build: Path, tmp_path: Path) -> None:
    files = Path(shutil.copytree(build / "embedded" / variant, tmp_path / "candidate"))
    path = files / model_file(variant)
    model = onnx.load(path)
    fault(model)
    onnx.save(model, path)
    code, report = verdict_of(path, tmp_path, variant)
    assert code == 1
    assert failing(report) & GRAPHS[fault], f"caught only by {failing(report)}"


def stale_merges(files: Path) -> None:
    path = files / "tokenizer.json"
    table = json.loads(path.read_text())
    merges = table["model"]["merges"]
    merges[10], merges[11] = merges[11], merges[10]
    merges.pop(300)
    path.write_text(json.dumps(table))


def wrong_end(files: Path) -> None:
    path = files / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "eos_token_id": 13}))


def other_epsilon_in_config(files: Path) -> None:
    path = files / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "layer_norm_epsilon": 1e-6}))


def token_as_object(files: Path) -> None:
    path = files / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "eos_token": {"content": "<|endoftext|>"}}))


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault", [stale_merges, wrong_end, other_epsilon_in_config, token_as_object], ids=lambda fault: fault.__name__
)
def test_a_fault_beside_the_graph_is_caught(fault: Callable[[Path], None], files: Path, tmp_path: Path) -> None:
    fault(files)
    code, report = verdict_of(files / "onnx" / "model.onnx", tmp_path)
    assert code == 1
    assert failing(report) == {"tokenizer"}


@pytest.mark.slow
def test_another_variants_file_is_caught(build: Path, tmp_path: Path) -> None:
    """A 4-bit file under the name and the tolerances of 8 bits."""
    q4 = build / "embedded" / "q4" / "onnx" / "model_q4.onnx"
    code, report = verdict_of(q4, tmp_path, "q8")
    assert code == 1
    assert "divergence" in failing(report)
