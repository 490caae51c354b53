"""The noise of `twin`: copies with moved last bits are what they say, and their command prints a recipe's tables."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import TensorProto, helper, numpy_helper

from pipeline.recipe.recipe import read_recipe
from tests.conftest import EMBEDDED, Stage
from verify.bounds.derive import derive
from verify.checks import twin
from verify.faults import lastbits

FLOATS = {np.float32: st.floats(width=32, allow_nan=False), np.float16: st.floats(width=16, allow_nan=False)}


def values(dtype: Any, shape: tuple[int, ...]) -> st.SearchStrategy[Any]:
    return arrays.arrays(dtype, shape, elements=FLOATS[dtype])


def small(tables: dict[str, Any], *, quantized: bool) -> onnx.ModelProto:
    """A lookup, a product and a bias; in quantized form, the scales lie under names that say nothing."""
    node = helper.make_node
    if quantized:
        nodes = [
            node("Gather", ["codes", "ids"], ["taken"]),
            node("Gather", ["a", "ids"], ["own"]),
            node("Unsqueeze", ["own", "last"], ["factor"]),
            node("Mul", ["taken", "factor"], ["row"]),
            node("MatMulNBits", ["row", "packed", "b"], ["product"], domain="com.microsoft", K=2, N=4, block_size=2),
        ]
    else:
        nodes = [node("Gather", ["a", "ids"], ["row"]), node("MatMul", ["row", "b"], ["product"])]
    nodes.append(node("Add", ["product", "bias"], ["logits"]))
    stored = [numpy_helper.from_array(value, name) for name, value in tables.items()]
    out = helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)
    return helper.make_model(helper.make_graph(nodes, "small", [], [out], stored))


def contents(model: onnx.ModelProto) -> dict[str, Any]:
    return {entry.name: numpy_helper.to_array(entry) for entry in model.graph.initializer}


@given(data=st.data(), quantized=st.booleans(), seed=st.integers(0, 9))
def test_scales_or_else_float32_weights_move_by_their_last_bit(data: st.DataObject, quantized: bool, seed: int) -> None:
    kind = data.draw(st.sampled_from([np.float32, np.float16])) if quantized else np.float32
    tables = {
        "a": data.draw(values(kind, (64, 3))),
        "b": data.draw(values(np.float32, (4, 5))),
        "bias": data.draw(values(np.float32 if quantized else np.float16, (5,))),
        "codes": np.zeros((64, 3, 2), np.uint8),
        "open": np.float32(0.5),  # a scalar is no weight
    }
    model = small(tables, quantized=quantized)
    before = model.SerializeToString(deterministic=True)
    found, again = (contents(lastbits.moved(model, seed)) for _ in range(2))
    assert model.SerializeToString(deterministic=True) == before
    for name, old in tables.items():
        new = found[name]
        np.testing.assert_array_equal(new, again[name])
        assert new.dtype == old.dtype
        if name not in ("a", "b"):
            np.testing.assert_array_equal(new, old)
            continue
        with np.errstate(over="ignore"):
            near = (np.nextafter(old, old.dtype.type(-np.inf)), old, np.nextafter(old, old.dtype.type(np.inf)))
        assert np.logical_or.reduce([new == value for value in near]).all()
        np.testing.assert_array_equal(np.isfinite(new), np.isfinite(old))
        assert (new[old == 0] == 0).all()
    normal = tables["a"][(tables["a"] != 0) & np.isfinite(tables["a"])]
    assert normal.size < 12 or not np.array_equal(found["a"], tables["a"])


def test_all_scales_of_a_built_variant_are_found_and_nothing_else(build: Path) -> None:
    """By the names that quantize gives them, which is another way to tell."""
    for path in sorted((build / "embedded").glob("*/onnx/*.onnx")):
        graph = onnx.load(path).graph
        named = {t.name for t in graph.initializer if t.name.endswith((".scales", ".absmax"))}
        assert lastbits.scales(graph) == named
        assert bool(named) != (path.parts[-3] in ("fp32", "fp16"))


@pytest.mark.slow
def test_the_printed_tables_make_a_recipe_that_the_noise_passes(build: Path, stage: Stage, tmp_path: Path) -> None:
    """From a recipe that does not name `twin`; and a bound below the noise is said to be."""
    own = Path(shutil.copytree(build, tmp_path / "build"))
    recipe = tmp_path / "recipe.toml"
    text = EMBEDDED.read_text().replace('text = "text/', f'text = "{EMBEDDED.parent}/text/').replace(', "twin"]', "]")
    text = text[: text.index("[tolerances.twin.")]
    recipe.write_text(text)
    arguments = ["verify.faults.noise", recipe, "--build", own, "--variant", "fp32", "q4f16", "--seeds", "1"]
    printed = stage(*arguments).stdout
    recipe.write_text(text + printed)
    limits = {
        (name, variant): read_recipe(recipe).limit("twin", name, variant)
        for name in twin.TOLERATED
        for variant in ("fp32", "q4f16")
    }
    derived = derive(read_recipe(recipe))
    for (name, variant), limit in limits.items():
        known = derived["twin", name].bounds.get(variant)
        assert known is not None or 1.999 * limit.measured <= limit.bound <= 2.04 * limit.measured, (name, variant)
        assert known in (None, limit.bound)
        assert (limit.measured > 0) != ((name, variant) == ("float_max_abs", "fp32"))  # it rounds no activations
    tight = limits["logits_rms", "q4f16"]
    old = f"max = {tight.bound:.3g}, measured = {tight.measured:.3g}"
    assert printed.count(old) == 1
    recipe.write_text(text + printed.replace(old, "max = 1e-9, measured = 1e-9"))
    said = stage(*arguments, code=1).stdout
    assert [line for line in said.splitlines() if "FAILED" in line] == [
        line for line in said.splitlines() if "1e-09" in line
    ]
    assert not list((own / "embedded").glob(".noise-*"))


def test_a_wrong_command_line_is_refused(stage: Stage, tmp_path: Path) -> None:
    for arguments, message in (
        (["--variant", "q5"], "unknown variant 'q5'"),
        (["--seeds", "0"], "0 seeds"),
        (["--factor", "0.5"], "factor 0.5"),
    ):
        assert message in stage("verify.faults.noise", EMBEDDED, *arguments, "--build", tmp_path, code=2).stderr
