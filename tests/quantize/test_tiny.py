"""A small random GPT-2-like graph, made here from ONNX operators, for the tests of the quantize stage."""

from __future__ import annotations

import numpy as np
import pytest

from model.contract import Dimensions
from tests.support.tiny_graph import ALIGNED, DIMS, LEVELS, UNTIED, batch, run, session, tiny_model


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dims", [DIMS, UNTIED, ALIGNED])
def test_the_tiny_model_ignores_padding_and_uses_its_cache(dims: Dimensions, level: str) -> None:
    runner = session(tiny_model(dims), level)
    ids, mask = batch(dims)
    full, _ = run(runner, ids, mask)
    alone, _ = run(runner, ids[1:2, 4:], mask[1:2, 4:])
    np.testing.assert_allclose(full[1, 4:], alone[0], atol=1e-4)
    _, cache = run(runner, ids[:, :5], mask[:, :5])
    rest, _ = run(runner, ids[:, 5:], mask, cache)
    np.testing.assert_allclose(full[:3, 8], rest[:3, 3], atol=1e-4)
    assert np.isfinite(full).all()
