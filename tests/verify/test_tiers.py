"""A table whose first rows have more bits lies in a file as two: every part of `verify` must see one table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from convert import contract_check
from model.architectures.gpt2 import config, fused
from model.contract import Dimensions
from quantize.rewrite.graph import clean
from quantize.schemes import float16, rtn
from tests.support.initializers import weight
from tests.support.random_source import RandomSource
from tests.support.tiny_graph import context
from verify.candidate.embedding import Tables
from verify.candidate.session import Candidate
from verify.candidate.subgraph import Cuts
from verify.checks import weights
from verify.explain.graph import Graph, anchors, parameters_of
from verify.faults.fault import InapplicableError
from verify.faults.surgery import change_entries, change_outputs
from verify.scoring.module_probes import Module

ROWS = 64
TABLE = "transformer.wte.weight"
SIZES = {"n_layer": 1, "n_embd": 40, "n_head": 2, "n_positions": 32, "vocab_size": ROWS}
BITS = pytest.mark.parametrize("bits", [8, 6, 4])


def made(
    bits: int, frequent: int = 20, *, tied: bool = True, narrow: bool = False
) -> tuple[onnx.ModelProto, Dimensions]:
    """A GPT-2 of random weights, its table in two tiers."""
    source = RandomSource(config, {**SIZES, "tie_word_embeddings": tied})
    model, dims = fused.build(source), source.dims
    contract_check.finish(model, dims, Path("source"))
    rtn.apply(model, rtn.Options(8, embedding_bits=bits, embedding_frequent=frequent), context(dims))
    if narrow:
        float16.apply(model, float16.Options(), context(dims))
    clean(model)
    return ir.to_proto(model), dims


@BITS
@pytest.mark.parametrize("frequent", [1, 20, ROWS - 1])
def test_all_tiers_are_found_behind_embedding_and_head(bits: int, frequent: int) -> None:
    model, dims = made(bits, frequent)
    tables = Tables(model.graph, dims)
    endings = {8: ["q8"], 6: ["q6.high", "q6.low"], 4: ["q4"], 2: ["q2"]}
    tiers = (("frequent", bits), ("rest", bits - 2))
    assert tables.embedding == {f"{TABLE}.{tier}.{end}" for tier, width in tiers for end in endings[width]}
    assert tables.head == tables.embedding


@BITS
@pytest.mark.parametrize("tier", ["frequent", "rest"])
def test_a_head_with_a_tier_of_its_own_is_seen(bits: int, tier: str) -> None:
    model, dims = made(bits, 1 if tier == "frequent" else ROWS - 1)
    product = next(n for n in model.graph.node if n.op_type == "MatMulNBits" and f".{tier}." in n.input[1])
    copy = onnx.numpy_helper.from_array(weight(model, product.input[1]), "own")
    model.graph.initializer.append(copy)
    product.input[1] = "own"
    tables = Tables(model.graph, dims)
    assert tables.head != tables.embedding
    model, dims = made(bits, tied=False)
    untied = Tables(model.graph, dims)
    assert untied.head.isdisjoint(untied.embedding)


@BITS
@pytest.mark.parametrize("narrow", [False, True])
def test_lookup_and_head_cut_out_answer_as_one_table(bits: int, narrow: bool, tmp_path: Path) -> None:
    model, _ = made(bits, narrow=narrow)
    onnx.save(model, tmp_path / "m.onnx")
    cuts = Cuts(Candidate(tmp_path / "m.onnx", "enable_all"))
    lookup, head = cuts.find("transformer.wte", lookup=True), cuts.find("lm_head", "logits")
    assert lookup is not None
    assert head is not None
    assert lookup.quantized
    assert head.quantized
    module = Module("lm_head", "linear", SIZES["n_embd"], TABLE)
    (error,) = weights._compare_tied(head, lookup, module, ROWS).values()
    assert error < (2e-3 if narrow else 1e-6)


@BITS
def test_no_part_passes_for_the_module(bits: int, tmp_path: Path) -> None:
    model, _ = made(bits)
    for node in model.graph.node:  # of another program, whose names tell nothing; the weights' names remain
        node.name = "n"
    graph = Graph.of(model, tmp_path)
    known = dict.fromkeys(("logits", "out.transformer.wte", "in.transformer.wte", "transformer.wte.product"))
    parameters = parameters_of(graph, {TABLE: np.zeros((SIZES["n_embd"], ROWS), np.float32)})
    assert parameters
    assert anchors(graph, known, parameters, "transformer.wte") == {"logits": "logits"}


@BITS
def test_a_fault_is_planted_in_the_tier_that_holds_the_token(bits: int) -> None:
    for row, tier, place in ((19, "frequent", 19), (20, "rest", 0), (63, "rest", 43)):
        for change in (change_entries, scaled):
            model, _ = made(bits)
            before = {t.name: weight(model, t.name) for t in model.graph.initializer}
            change(model, TABLE, doubled(row))
            changed = {name: value for name, value in before.items() if not np.array_equal(value, weight(model, name))}
            assert set(changed) == {f"{TABLE}.{tier}.scales"}
            (name,) = changed
            np.testing.assert_array_equal(np.flatnonzero((weight(model, name) != changed[name]).any(axis=1)), [place])


def test_entries_of_one_tier_change_places_and_those_of_two_cannot() -> None:
    model, _ = made(6)
    before = {t.name: weight(model, t.name) for t in model.graph.initializer}
    change_outputs(model, TABLE, exchanged(21, 60), scales=False)
    for name, value in before.items():
        wanted = value.copy()
        if name.startswith(f"{TABLE}.rest."):
            wanted[[1, 40]] = wanted[[40, 1]]
        np.testing.assert_array_equal(weight(model, name), wanted)
    with pytest.raises(InapplicableError, match="different bits"):
        change_outputs(model, TABLE, exchanged(19, 20), scales=False)


def scaled(model: onnx.ModelProto, table: str, change: Any) -> None:
    change_outputs(model, table, change, scales=True)


def doubled(row: int) -> Any:
    def change(value: np.ndarray) -> np.ndarray:
        value[row] *= 2
        return value

    return change


def exchanged(one: int, other: int) -> Any:
    def change(value: np.ndarray) -> np.ndarray:
        value[[one, other]] = value[[other, one]]
        return value

    return change
