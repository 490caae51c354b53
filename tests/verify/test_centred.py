"""A head that takes a centre off its input must put back what it makes of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from convert import contract_check
from model.architectures.gpt2 import config, fused
from quantize.numerics.blocks import Form
from quantize.rewrite.graph import clean
from quantize.rewrite.lookup import place
from quantize.rewrite.weights import find_weights
from quantize.schemes import float16, rtn
from tests.support.initializers import weight
from tests.support.random_source import RandomSource
from tests.support.tiny_graph import context
from verify.candidate.session import Candidate
from verify.candidate.subgraph import Cuts
from verify.checks import weights
from verify.scoring.module_probes import Module

ROWS, WIDTH = 64, 40
TABLE = "transformer.wte.weight"
SIZES = {"n_layer": 1, "n_embd": WIDTH, "n_head": 2, "n_positions": 32, "vocab_size": ROWS}
CENTRE = np.random.default_rng(0).normal(scale=3, size=WIDTH).astype(np.float32)
BOUND = 2.1e-6  # of weights.function_error in recipes; of float16, 2e-3


def made(*, tied: bool = True, narrow: bool = False) -> tuple[onnx.ModelProto, np.ndarray]:
    """A GPT-2 of random weights whose head has 8 bits and a centre; the head's weights [rows, width]."""
    source = RandomSource(config, {**SIZES, "tie_word_embeddings": tied})
    model, dims = fused.build(source), source.dims
    contract_check.finish(model, dims, Path("source"))
    for table in find_weights(model, dims).tables:
        blocks = rtn.solve(table.matrix(), Form(8, 32, symmetric=True))
        if table.products:
            stored = table.matrix()
        place(model, table, blocks, 4, CENTRE if table.products else None)
    if narrow:
        float16.apply(model, float16.Options(), context(dims))
    clean(model)
    return ir.to_proto(model), stored


def error(model: onnx.ModelProto, directory: Path) -> float:
    """Return what the check `weights` says of the tied head."""
    onnx.save(model, directory / "m.onnx")
    cuts = Cuts(Candidate(directory / "m.onnx", "enable_all"))
    lookup, head = cuts.find("transformer.wte", lookup=True), cuts.find("lm_head", "logits")
    assert lookup is not None
    assert head is not None
    assert head.centre is not None
    (found,) = weights._compare_tied(head, lookup, Module("lm_head", "linear", WIDTH, "w"), ROWS).values()
    return found


def changed(model: onnx.ModelProto, part: str, at: int, by: float) -> onnx.ModelProto:
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name.endswith(f".{part}"))
    values = numpy_helper.to_array(tensor).copy()
    values[at] += by
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return model


@pytest.mark.parametrize(("narrow", "bound"), [(False, BOUND), (True, 2e-3)])
def test_a_right_head_is_within_the_bound_of_any_other(narrow: bool, bound: float, tmp_path: Path) -> None:
    assert error(made(narrow=narrow)[0], tmp_path) < bound


@pytest.mark.parametrize("at", [0, 5, WIDTH - 1])
@pytest.mark.parametrize("part", ["centre", "offset"])
def test_what_is_not_put_back_is_found(part: str, at: int, tmp_path: Path) -> None:
    assert error(changed(made()[0], part, at, 0.01), tmp_path) > 5 * BOUND


@pytest.mark.parametrize("at", [0, 16, 32])  # one input in 16 is asked about
def test_a_wrong_code_is_found_behind_a_centre(at: int, tmp_path: Path) -> None:
    """Of the head alone: embedding and head must read one table, so it gets one of its own."""
    model, _ = made()
    codes = weight(model, f"{TABLE}.q8").copy()
    codes[3].reshape(-1)[at] ^= 1
    model.graph.initializer.append(numpy_helper.from_array(codes, "own"))
    product = next(
        node for node in model.graph.node if node.op_type == "MatMulNBits" and node.input[1] == f"{TABLE}.q8"
    )
    product.input[1] = "own"
    assert error(model, tmp_path) > 5 * BOUND


def test_an_untied_head_is_held_to_its_weights_and_to_no_bias(tmp_path: Path) -> None:
    model, stored = made(tied=False)
    for path, broken in (("right", False), ("wrong", True)):
        onnx.save(changed(model, "offset", 7, 0.01) if broken else model, tmp_path / f"{path}.onnx")
        head = Cuts(Candidate(tmp_path / f"{path}.onnx", "enable_all")).find("lm_head", "logits")
        assert head is not None
        found = weights._compare(head, Module("lm_head", "linear", WIDTH, "w"), stored.T, None)
        assert (found["value_error"] > 1e-5) is broken
        assert found["block_error"] < 0.02
