from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from model.contract import Dimensions
from quantize.blockwise import Choice
from quantize.numerics.blocks import Form
from quantize.rewrite.weights import find_weights
from quantize.runner import GraphRunner
from quantize.search.journal import Journal
from quantize.search.remainder import ROWS, Remainders
from quantize.search.sensitivity import Probe
from tests.support.calibrated import calibration_of, make_context
from tests.support.tiny_graph import DIMS, UNTIED


@pytest.mark.parametrize("dims", [DIMS, UNTIED], ids=["tied", "untied"])
def test_remainders_are_the_whole_graph_to_the_last_bit(dims: Dimensions, tmp_path: Path) -> None:
    context = make_context(tmp_path, dims)
    texts = calibration_of(context).pieces("measure", 2)
    remainders = Remainders(context, texts)
    model = ir.load(context.graph)
    weights = find_weights(model, dims)
    known = [*weights.body, *weights.tables, *weights.lookups]
    model.graph.inputs.extend(weight.value for weight in known)
    whole = GraphRunner(model)
    for weight in known:
        array = weight.value.const_value.numpy() * np.float32(1.01)  # type: ignore[union-attr]
        names = [weight.name, weight.name + ROWS] if weight.lookups and weight.products else [weight.name]
        found = list(remainders.logits(dict.fromkeys(names, array)))
        assert len(found) == len(texts)
        for ids, (reference, logits) in zip(texts, found, strict=True):
            np.testing.assert_array_equal(reference, whole.logits(ids, len(ids) // 2))
            np.testing.assert_array_equal(logits, whole.logits(ids, len(ids) // 2, {weight.name: array}))
            assert not np.array_equal(logits, reference)


def test_a_table_is_replaced_in_its_product_alone_and_layers_that_come_first_are_left_out(tmp_path: Path) -> None:
    context = make_context(tmp_path)
    remainders = Remainders(context, calibration_of(context).pieces("measure", 1))
    array = next(iter(find_weights(ir.load(context.graph), DIMS).tables)).matrix() * np.float32(1.5)
    (_, product), (_, both) = (
        next(remainders.logits(dict.fromkeys(names, array)))
        for names in (("wte.weight",), ("wte.weight", "wte.weight" + ROWS))
    )
    (reference, _) = next(remainders.logits({}))
    np.testing.assert_allclose(product, reference * 1.5, rtol=1e-4, atol=1e-5)
    assert np.abs(both - product).max() > 0.1
    next(remainders.logits({"wte.weight": array}))
    assert not [name for name in remainders.runner.inputs if name.startswith("h.")]


@pytest.mark.parametrize("dims", [DIMS, UNTIED], ids=["tied", "untied"])
def test_no_weight_is_rounded_for_nothing(dims: Dimensions, tmp_path: Path) -> None:
    """Least of all an embedding that has a head of its own: `auto` would give it the fewest bits."""
    context = make_context(tmp_path, dims)
    probe = Probe(context, Journal(tmp_path / "journal"))
    weights = find_weights(ir.load(context.graph), dims)
    choice = Choice("rtn", Form(2, 32, symmetric=True), level=0)
    for weight in (*weights.body, *weights.tables, *weights.lookups):
        assert probe.kld(weight, choice, choice) > 1e-3, weight.name
