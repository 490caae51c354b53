"""Test which part a matrix has in a graph follows from its use: sizes may be equal by chance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from convert import contract_check
from model.architectures.gpt2 import config, fused
from quantize.rewrite.weights import find_weights
from tests.support.random_source import RandomSource

# As of a small model of bytes: as many positions, and as wide an inner layer, as there are tokens.
SIZES = {"n_layer": 1, "n_embd": 16, "n_head": 2, "n_positions": 64, "vocab_size": 64}


@pytest.mark.parametrize(("tied", "tables"), [(True, ["transformer.wte"]), (False, ["transformer.wte", "lm_head"])])
def test_a_matrix_of_as_many_rows_as_tokens_is_no_table_of_tokens(tied: bool, tables: list[str]) -> None:
    options: dict[str, Any] = {**SIZES, "tie_word_embeddings": tied}
    source = RandomSource(config, options)
    model, dims = fused.build(source), source.dims
    contract_check.finish(model, dims, Path("source"))
    found = find_weights(model, dims)
    assert sorted(weight.name for weight in found.tables) == sorted(f"{name}.weight" for name in tables)
    assert [weight.name for weight in found.lookups] == ["transformer.wpe.weight"]
    body = [weight.name.removeprefix("transformer.h.0.") for weight in found.body]
    assert body == ["attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight"]
