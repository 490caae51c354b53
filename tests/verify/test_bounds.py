"""Bounds from arithmetic: the model of rounding against simulations, and both recipes held to what is derived."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from pipeline.recipe.recipe import Recipe, read_recipe
from pipeline.recipe.tolerances import Basis
from pipeline.variants import model_file
from tests.conftest import EMBEDDED, ROOT
from tests.support import report_document as made
from verify.bounds import rounding
from verify.bounds.derive import Derivation, derive, rounded_up
from verify.bounds.formats import Formats, formats, formats_of
from verify.bounds.network import Network
from verify.bounds.notices import notices
from verify.check import Array, Measure
from verify.checks.logits import RANGE
from verify.faults import lastbits
from verify.verdict import Judged, Result

RECIPES = [
    EMBEDDED,
    *(
        ROOT / "recipes" / name
        for name in ("embedded-llama.toml", "embedded-qwen.toml", "embedded-neox.toml", "gpt-2-70m.toml")
    ),
]
WIDE = ROOT / "recipes" / "smollm2-135m.toml"  # thirty layers: bounds are wider than where a fault was measured
SAMPLES = 2000


def relative_variance(found: Any, wanted: Any) -> float:
    return float(np.mean((found.astype(np.float64) - wanted) ** 2) / np.mean(wanted**2))


@pytest.mark.parametrize("terms", [64, 512, 2048])
def test_a_sum_one_term_after_the_other_errs_as_the_model_says(terms: int) -> None:
    values = np.random.default_rng(terms).standard_normal((SAMPLES, terms)).astype(np.float32)
    found = relative_variance(np.cumsum(values, axis=1, dtype=np.float32)[:, -1], values.astype(np.float64).sum(axis=1))
    assert 0.4 < found / rounding.of_sum(terms) < 1
    pairwise = relative_variance(values.sum(axis=1), values.astype(np.float64).sum(axis=1))
    assert pairwise < found


def test_a_sum_of_squares_errs_as_the_model_says() -> None:
    values = np.random.default_rng(0).standard_normal((SAMPLES, 512)).astype(np.float32) ** 2
    exact = values.astype(np.float64).sum(axis=1)
    found = relative_variance(np.cumsum(values, axis=1, dtype=np.float32)[:, -1], exact)
    assert 0.3 < found / rounding.of_squares(512) < 1


@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_a_moved_bit_is_as_large_as_the_model_says(kind: type) -> None:
    unit = rounding.FLOAT32 if kind is np.float32 else rounding.FLOAT16
    values: Array = np.exp2(np.random.default_rng(0).uniform(-8, 8, 100_000)).astype(kind)
    found = lastbits._moved(values, np.random.default_rng(1)).astype(np.float64) / values.astype(np.float64) - 1
    assert np.mean(found**2) / rounding.of_moved_bit(unit) == pytest.approx(1, abs=0.02)


def test_branches_of_a_residual_stream_add_up_as_the_model_says() -> None:
    """Independent branches of one size, each off by a thousandth, and passing on what is wrong with their input."""
    rng, error = np.random.default_rng(0), 1e-3
    stream = wrong = np.zeros((50, 4000))
    for _ in range(24):
        branch = rng.standard_normal(stream.shape)
        strength = float(np.linalg.norm(branch) / np.linalg.norm(stream)) if stream.any() else 0.0
        brought = float(np.linalg.norm(wrong - stream)) / math.sqrt(wrong.size)
        passed_on = strength * brought * rng.standard_normal(stream.shape)
        off = branch * error * rng.standard_normal(stream.shape)
        stream, wrong = stream + branch, wrong + branch + off + passed_on
    found = relative_variance(wrong, stream)
    assert found / rounding.through_layers(24, error**2) == pytest.approx(1, abs=0.1)


def test_of_many_normal_numbers_none_is_beyond_the_largest() -> None:
    values = np.abs(np.random.default_rng(0).standard_normal(1_000_000))
    assert rounding.typical(values.max(), len(values)) == pytest.approx(1, abs=0.1)
    assert values.max() < rounding.largest(len(values)) < 1.6 * values.max()


@pytest.mark.parametrize("spread", [0.0, 1.0, 8.0])
def test_no_divergence_is_beyond_the_largest(spread: float) -> None:
    """Of distributions over two tokens and over many: near the bound where two are equally likely, never above."""
    network, rng = Network(12, 512, 8, 1024, 50_257, 10.0, 2.0), np.random.default_rng(0)
    for tokens in (2, 3, 1000):
        logits = spread * rng.standard_normal((4000, tokens))
        errors = network.typical_logits() * rng.standard_normal(logits.shape)
        chances = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
        mean = (chances * errors).sum(axis=-1, keepdims=True)
        divergence = (chances * (errors - mean) ** 2).sum(axis=-1) / 2
        assert divergence.max() < network.largest_divergence(len(logits))
        if tokens == 2 and spread == 0:
            assert divergence.max() > network.largest_divergence(len(logits)) / 5


def test_a_wider_deeper_or_larger_network_may_differ_by_more() -> None:
    small = Network(2, 64, 2, 128, 1000, 10.0, 2.0)
    for larger in (
        dataclasses.replace(small, layers=4),
        dataclasses.replace(small, hidden=128),
        dataclasses.replace(small, context=512),
        dataclasses.replace(small, logits_range=20.0),
        dataclasses.replace(small, head_dim=64),
    ):
        assert larger.largest_logits() > small.largest_logits()
    assert small.largest_logits(rounding.of_moved_bit(rounding.FLOAT16)) > 100 * small.largest_logits()
    assert dataclasses.replace(small, cache_range=4.0).largest_cached() == pytest.approx(2 * small.largest_cached())


@pytest.mark.parametrize("value", [0.0, 1.0, 9.99e-7, 1.2345e-5, 6.2e-5])
def test_bounds_are_rounded_up_to_two_digits(value: float) -> None:
    assert value <= rounded_up(value) <= 1.1 * value
    assert float(f"{rounded_up(value):.1e}") == rounded_up(value)


@pytest.mark.parametrize("path", [*RECIPES, WIDE], ids=lambda path: path.stem)
def test_the_recipe_states_the_derived_bounds(path: Path) -> None:
    """A bound of arithmetic that one machine's measurement has set would be a false alarm on another."""
    recipe = read_recipe(path)
    variants = recipe.files
    derived = derive(recipe)
    assert ("logits", "on_demand") in derived
    for (check, figure), derivation in derived.items():
        if check not in recipe.verify.checks:
            continue
        tolerance = recipe.tolerances[check][figure]
        assert tolerance.reason == derivation.reason(tolerance.reason, variants)
        stated = {name: tolerance.limits[name].bound for name in derivation.bounds}
        assert stated == derivation.bounds, (check, figure)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_no_bound_comes_from_nothing_measured(path: Path) -> None:
    """Where nothing was measured, a bound is derived, or of a share of choices, or of numbers that are exact."""
    recipe = read_recipe(path)
    shares = {"near_ties", "greedy_near_ties", "sampling_near_ties", "beam_near_ties"}
    exact = {"block_error", "block_scale", "tensor_error", "tensor_scale"}  # of weights that are stored as they are
    derived = derive(recipe)
    for check, figures in recipe.tolerances.items():
        for figure, tolerance in figures.items():
            known = derived.get((check, figure), Derivation({}, "")).bounds
            for variant, limit in tolerance.limits.items():
                if limit.measured == 0 and variant not in known:
                    assert figure in shares or (figure in exact and variant == "fp32"), (check, figure, variant)


def test_bounds_of_rows_stay_far_below_one_scale_for_all_activations() -> None:
    """Stock dynamic int8 moves a row: 0.019 of a logit where one layer does so, measured by `make faults`."""
    for path in RECIPES:
        assert max(derive(read_recipe(path))["logits", "batch_dependence"].bounds.values()) < 0.019 / 100


def test_formats_follow_from_a_recipes_steps() -> None:
    rtn = {"scheme": "rtn", "bits": 8}
    assert formats([rtn]) == Formats(body=True, head=True, scales=True)
    assert formats([{**rtn, "expand": True}]) == Formats(scales=True)
    assert formats([{**rtn, "accuracy_level": 1}]) == Formats(scales=True)
    assert formats([{"scheme": "auto", "accuracy_level": 1, "candidates": [{"accuracy_level": 4}]}]).body
    assert formats([{"scheme": "nf4"}]) == Formats(head=True, scales=True)
    assert formats([{"scheme": "float16"}]) == Formats(float16=True)
    assert formats([{"scheme": "float16"}]).last_bit < formats([rtn, {"scheme": "float16"}]).last_bit


def test_formats_are_those_of_the_built_graphs(build: Path) -> None:
    for name, found in formats_of(read_recipe(EMBEDDED)).items():
        graph = onnx.load(build / "embedded" / name / model_file(name)).graph
        levels = {
            "logits" in node.output[0]: attribute.i > 1
            for node in graph.node
            for attribute in node.attribute
            if attribute.name == "accuracy_level"
        }
        assert (found.body, found.head) == (levels.get(False, False), levels.get(True, False)), name
        assert found.float16 == any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in graph.initializer), name
        assert found.scales == bool(lastbits.scales(graph)), name


def test_nothing_is_derived_without_sizes_and_ranges() -> None:
    recipe = read_recipe(EMBEDDED)
    assert derive(recipe)
    assert not derive(dataclasses.replace(recipe, basis=Basis(("AVX2",), None, 2.0)))
    source = dataclasses.replace(recipe.source, expect=dataclasses.replace(recipe.source.expect, hidden=None))
    assert not derive(dataclasses.replace(recipe, source=source))


def told(basis: Basis, check: str, value: float) -> list[str]:
    recipe: Recipe = dataclasses.replace(read_recipe(EMBEDDED), basis=basis)
    size = Judged(Measure(RANGE, value, 1, judged=False), None, upper=True, passed=True, reason="")
    return notices(recipe, made.make([Result("fp32", check, "any", (size,))]))


def test_another_instruction_set_or_a_larger_range_is_said() -> None:
    assert told(Basis(("AVX512-VNNI", "AVX2"), 20.0, 2.0), "logits", 20.0) == []
    (line,) = told(Basis(("AVX512-VNNI", "SSE4.2"), 20.0, 2.0), "logits", 20.0)
    assert line == ("this processor has AVX2; tolerances that are not derived were measured on AVX512-VNNI, SSE4.2")
    (line,) = told(Basis(), "cache", 9.0)
    assert "does not state on which instruction sets" in line
    (line,) = told(Basis(("AVX2",), 20.0, 2.0), "cache", 2.5)
    assert "tolerances.cache_range = 2, and the reference has 2.5" in line
