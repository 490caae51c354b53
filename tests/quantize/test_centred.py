"""A head that rounds its input less a centre: the same function, less rounding."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from model.contract import Dimensions
from pipeline.errors import RecipeError
from quantize.blockwise import BlockwiseOptions
from quantize.numerics.activations import rounding_error
from quantize.numerics.blocks import Blocks, Floats, Form, dequantize
from quantize.rewrite.graph import clean
from quantize.rewrite.lookup import place
from quantize.rewrite.weights import find_weights
from quantize.schemes import auto, gptq, hqq, rtn
from tests.support.calibrated import make_context
from tests.support.table_model import table_model
from tests.support.tiny_graph import LEVELS, Array, session

ROWS, COLUMNS, FREQUENT = 29, 64, 11
DIMS = Dimensions(1, COLUMNS, 1, 1, COLUMNS, 4, ROWS, 1, tied=True)
RANDOM = np.random.default_rng(0)
TABLE = RANDOM.standard_normal((ROWS, COLUMNS)).astype(np.float32)
CENTRE = (4 * RANDOM.standard_normal(COLUMNS)).astype(np.float32)
X = (CENTRE + 0.5 * RANDOM.standard_normal((50, COLUMNS))).astype(np.float32)
BIAS = np.arange(ROWS, dtype=np.float32)
FORMS = pytest.mark.parametrize(
    "form", [Form(8, 32, symmetric=True), Form(6, 32, symmetric=False), Form(8, 32, symmetric=True, frequent=FREQUENT)]
)


def solved(form: Form) -> Blocks:
    pieces = np.split(TABLE, [form.frequent]) if form.frequent else [TABLE]
    first, *rest = [rtn.solve(piece, tier) for piece, tier in zip(pieces, form.tiers, strict=True)]
    return replace(first, rest=rest[0]) if rest else first


def logits(
    form: Form, level: int, centre: Floats | None, *, optimization: str = LEVELS[1], bias: bool = False
) -> Array:
    model = ir.from_proto(table_model(TABLE, DIMS, bias=bias))
    (weight,) = find_weights(model, DIMS).tables
    place(model, weight, solved(form), level, centre)
    clean(model)
    feeds = {"input_ids": np.zeros((1, 1), np.int64), "x": X}
    (found,) = session(ir.to_proto(model), optimization).run(["logits"], feeds)
    return np.asarray(found)


@pytest.mark.parametrize("optimization", LEVELS)
@pytest.mark.parametrize("bias", [False, True])
@FORMS
def test_it_is_the_same_function_but_for_the_order_of_sums(form: Form, bias: bool, optimization: str) -> None:
    wanted = X.astype(np.float64) @ dequantize(solved(form)).T + (BIAS if bias else 0)
    found = logits(form, 1, CENTRE, optimization=optimization, bias=bias)
    size = np.abs(X - CENTRE) @ np.abs(TABLE).T + 2 * np.abs(CENTRE) @ np.abs(TABLE).T + BIAS
    assert (np.abs(found - wanted) / size).max() < 2**-21


@FORMS
def test_it_rounds_less_where_inputs_have_a_mean(form: Form) -> None:
    wanted = X.astype(np.float64) @ dequantize(solved(form)).T
    as_it_is, centred = (np.square(logits(form, 4, centre) - wanted).mean() for centre in (None, CENTRE))
    assert centred < as_it_is / 4


@pytest.mark.parametrize("block", [16, 32, 64])
def test_rounding_is_what_the_product_does(block: int) -> None:
    """Nothing else is rounded: with 8 bits a table of whole numbers is stored exactly."""
    form = Form(8, block, symmetric=True)
    wanted = (X + rounding_error(X, block)).astype(np.float64) @ dequantize(solved(form)).T
    off = np.abs(logits(form, 4, None) - wanted).max()
    assert off < np.abs(X.astype(np.float64) @ dequantize(solved(form)).T - wanted).max() / 50


def test_auto_centres_the_head_and_no_other_product(tmp_path: Path) -> None:
    found = {}
    for centred in (False, True):
        context = make_context(tmp_path / str(centred), tokens=6000, chunk=32)
        model = ir.load(context.graph)
        table = auto.Storage(8)
        auto.apply(model, auto.Options(max_bytes=100_000, embedding_candidates=(table,), centred=centred), context)
        found[centred] = sorted(
            str(name) for name in model.graph.initializers if str(name).endswith((".centre", ".offset"))
        )
        chosen = context.facts["plan"]["tensors"]
        assert {name for name, how in chosen.items() if how.get("centred")} == ({"wte.weight"} if centred else set())
    assert found == {False: [], True: ["wte.weight.centre", "wte.weight.offset"]}


def test_a_head_whose_products_round_nothing_is_left_as_it_is(tmp_path: Path) -> None:
    context = make_context(tmp_path)
    model = ir.load(context.graph)
    gptq.apply(model, gptq.Options(8, accuracy_level=0, embedding_centred=True), context)
    assert not [name for name in model.graph.initializers if str(name).endswith(".centre")]


@pytest.mark.parametrize("options", [rtn.Options(8, embedding_centred=True), hqq.Options(8, embedding_centred=True)])
def test_a_scheme_without_calibration_text_is_refused_a_mean(options: BlockwiseOptions) -> None:
    with pytest.raises(RecipeError, match="sees no calibration text") as refusal:
        options.check("steps[0]")
    assert refusal.value.where == "steps[0]: embedding_centred"


def test_a_scheme_of_calibration_centres_the_head(tmp_path: Path) -> None:
    context = make_context(tmp_path)
    model = ir.load(context.graph)
    gptq.apply(model, gptq.Options(8, embedding_centred=True), context)
    assert [str(name) for name in model.graph.initializers if str(name).endswith(".centre")] == ["wte.weight.centre"]


def test_expanded_weights_have_nothing_to_round() -> None:
    with pytest.raises(RecipeError, match="round no activations"):
        rtn.Options(8, expand=True, embedding_centred=True).check("steps[0]")
