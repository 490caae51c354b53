from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import onnx_ir as ir
import pytest

from model.divergence import divergences
from pipeline.canonical import canonical_json
from pipeline.errors import RecipeError
from quantize import blockwise
from quantize.blockwise import Choice
from quantize.numerics.blocks import Form
from quantize.rewrite.graph import clean
from quantize.rewrite.weights import find_weights
from quantize.runner import GraphRunner
from quantize.scheme import Context, read_step
from quantize.schemes import gptq
from quantize.schemes.auto import Options, Storage
from quantize.search.search import Budget, Room
from quantize.search.sensitivity import Probe
from tests.support.calibrated import calibration_of, make_context, write_tokenizer

TEXT: dict[str, Any] = {"tokens": 6000, "chunk": 32}
SMALL: dict[str, Any] = {
    "candidates": [{"bits": 4}, {"bits": 6}, {"bits": 8}, {"bits": 4, "scheme": "kquant", "symmetric": False}],
    "embedding_candidates": [{"bits": 4}, {"bits": 6}, {"bits": 8}],
}


def auto(context: Context, **settings: Any) -> tuple[bytes, dict[str, Any]]:
    """The graph that auto makes, and the plan it records."""
    model = ir.load(context.graph)
    read_step({"scheme": "auto", **SMALL, **settings}, "steps[0]").apply(model, context)
    clean(model)
    return ir.to_proto(model).SerializeToString(deterministic=True), context.facts["plan"]


def judged(context: Context, graph: bytes) -> float:
    """Mean divergence on the text that auto judges on."""
    reference, candidate = GraphRunner(context.graph), GraphRunner(ir.from_proto(onnx.load_from_string(graph)))
    klds = [
        divergences(reference.logits(ids, 16), candidate.logits(ids, 16)).mean()
        for ids in calibration_of(context).pieces("judge", 6)
    ]
    return float(sum(klds) / len(klds))


@pytest.fixture(name="context")
def made(tmp_path: Path) -> Context:
    return make_context(tmp_path, **TEXT)


def test_bytes_are_kept_and_more_of_them_are_used_for_fidelity(context: Context) -> None:
    found = [auto(context, max_bytes=size) for size in (58_000, 64_000, 84_000)]
    for (graph, plan), size in zip(found, (58_000, 64_000, 84_000), strict=True):
        assert len(graph) == plan["bytes"] <= size
        assert plan["mean_kld"] == pytest.approx(judged(context, graph), rel=1e-6)
        assert plan["tokens"] == 6 * 16
    klds = [plan["mean_kld"] for _, plan in found]
    assert klds[0] > 1.5 * klds[1] > 3 * klds[2]
    assert found[1][1]["bytes"] > 61_000
    bits = {tensor["bits"] for tensor in found[1][1]["tensors"].values()}
    assert len(bits) > 1
    canonical_json(found[0][1])


def test_more_bits_for_frequent_tokens_are_bought_where_the_bytes_allow_it(
    context: Context, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = [{"bits": 4}, {"bits": 6, "frequent": 32}]
    others = {"candidates": [{"bits": 8}], "position_candidates": [{"bits": 0}]}
    found = [auto(context, max_bytes=size, embedding_candidates=tables, **others) for size in (90_000, 96_000)]
    chosen = [plan["tensors"]["wte.weight"] for _, plan in found]
    assert [(tensor["bits"], tensor["frequent"]) for tensor in chosen] == [(4, 0), (6, 32)]
    for graph, plan in found:
        assert len(graph) == plan["bytes"]
        assert plan["mean_kld"] == pytest.approx(judged(context, graph), rel=1e-6)
        sizes = {t.name: len(t.raw_data) for t in onnx.load_from_string(graph).graph.initializer}
        stored = sum(size for name, size in sizes.items() if name.startswith("wte.weight."))
        assert stored == plan["tensors"]["wte.weight"]["bytes"]
    assert found[0][1]["mean_kld"] > 1.5 * found[1][1]["mean_kld"]
    assert "gptq 6 bits in the first 32 rows, 4 in the others, block 32" in capsys.readouterr().err


@pytest.mark.parametrize(("table", "lookups", "wanted"), [(True, True, 13.0), (False, True, 9.0), (False, False, 16.0)])
def test_what_lookups_read_is_measured_whatever_the_tensor_is(
    table: bool, lookups: bool, wanted: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weight 3 and its input's rounding 1 at a slope of 4; measured whole 5, and a head's rounding 8."""
    measured = {"whole": 5.0, "product": 12.0}
    monkeypatch.setattr(Probe, "_measured", lambda _self, _weight, _choice, where: measured[where])
    monkeypatch.setattr(Probe, "_errors", lambda _self, _weight, _choice: {"weight": 3.0, "input": 1.0})
    monkeypatch.setattr(Probe, "_rounding", lambda _self, _weight, _choice: 8.0)
    weight: Any = SimpleNamespace(table=table, products=["a"], lookups=["b"] if lookups else [])
    choice: Any = None
    assert Probe.kld(object.__new__(Probe), weight, choice, choice) == wanted


def test_what_is_too_much_is_taken_from_the_plan_and_not_from_room_that_it_leaves() -> None:
    """Else the same plan comes again and again, as if none kept the budget."""
    room = Room("bytes", Budget(1000, None, None), rest=100)
    assert room.size == 900
    room.correct(spent=700, excess=1.01, size=1010)
    assert room.size == 690
    room.correct(spent=690, excess=0.99, size=990)
    assert room.size == 700


@pytest.mark.parametrize("figure", ["mean_kld", "p999_kld"])
def test_a_bound_on_divergence_holds_for_the_real_graph_and_costs_few_bytes(context: Context, figure: str) -> None:
    _, middle = auto(context, max_bytes=66_000)
    graph, plan = auto(context, **{f"max_{figure}": middle[figure] * 1.01})
    assert plan[figure] <= middle[figure] * 1.01
    assert len(graph) == plan["bytes"] <= 66_000 * 1.2
    _, loose = auto(context, **{f"max_{figure}": middle[figure] * 3})
    assert loose["bytes"] < plan["bytes"]


def test_a_budget_that_cannot_be_kept_is_refused_with_what_can(context: Context) -> None:
    with pytest.raises(RecipeError, match="no plan keeps the budget") as refusal:
        auto(context, max_bytes=40_000)
    assert "allow what is possible: from " in refusal.value.hint
    with pytest.raises(RecipeError, match="no plan keeps the budget"):
        auto(context, max_mean_kld=1e-12)


def test_what_a_refusal_says_is_possible_is(context: Context) -> None:
    """The least plan may measure less than the sum of its sensitivities, which is all that the allocation knows."""
    with pytest.raises(RecipeError) as refusal:
        auto(context, max_mean_kld=1e-12)
    possible = re.search(r" to ([\d,]+) bytes and a mean KLD of (\S+)$", refusal.value.hint)
    assert possible
    _, plan = auto(context, max_mean_kld=1.01 * float(possible[2]))
    assert plan["bytes"] <= int(possible[1].replace(",", ""))


def test_a_run_that_was_stopped_goes_on_and_ends_the_same(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = auto(make_context(tmp_path / "whole", **TEXT), max_bytes=62_000)
    solve, calls = blockwise.solve, 0

    def stop(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > 20:
            raise KeyboardInterrupt
        return solve(*arguments)

    monkeypatch.setattr(blockwise, "solve", stop)
    with pytest.raises(KeyboardInterrupt):
        auto(context, max_bytes=62_000)
    journal = context.work / "sensitivity.jsonl"
    known = journal.read_bytes()
    assert known.count(b"\n") >= 20
    journal.write_bytes(known[:-5])
    calls = -1000
    assert auto(context, max_bytes=62_000) == whole
    assert journal.read_bytes().startswith(known[: known.rindex(b"\n", 0, -1)])
    calls = 20  # everything is known: nothing is solved to measure it
    assert auto(context, max_bytes=62_000) == whole


def test_what_one_variant_has_solved_another_does_not_solve_again(context: Context) -> None:
    weight = find_weights(ir.load(context.graph), context.dims).body[0]
    choice = Choice("gptq", Form(4, 32, symmetric=True), level=4)
    first = blockwise.solve(weight, choice, context)
    other = replace(context, facts={})
    assert blockwise.solve(weight, replace(choice, level=0), other, gptq.Options(bits=8, embedding_bits=4)) is first
    assert blockwise.solve(weight, choice, other, gptq.Options(bits=4, sweeps=0)) is not first
    assert blockwise.solve(weight, replace(choice, form=Form(4, 64, symmetric=True)), other).form.block == 64


def test_a_layer_is_measured_once_for_variants_that_share_a_form_of_four_bits(context: Context) -> None:
    """Not at 2 bits, whose errors are not small, unless there is nothing else."""

    def measured() -> list[tuple[str, int]]:
        lines = map(json.loads, (context.work / "sensitivity.jsonl").read_text().splitlines())
        found = [line["what"] for line in lines if line["what"]["what"] == "kld product"]
        return sorted((what["tensor"], what["choice"]["form"]["bits"]) for what in found)

    layers = sorted(weight.stem for weight in find_weights(ir.load(context.graph), context.dims).body)
    auto(context, max_bytes=80_000, candidates=[{"bits": 2}, {"bits": 4}, {"bits": 8}])
    assert measured() == [(name, 4) for name in layers]
    auto(context, max_bytes=80_000, candidates=[{"bits": 8}, {"bits": 4}])
    assert measured() == [(name, 4) for name in layers]
    auto(context, max_bytes=80_000, candidates=[{"bits": 2}])
    assert measured() == sorted((name, bits) for name in layers for bits in (2, 4))


def test_any_number_of_cores_makes_the_same_plan_and_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for cores in (1, 3):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        found.append(auto(make_context(tmp_path / str(cores), **TEXT), max_bytes=64_000))
    assert found[0] == found[1]


def test_other_text_or_another_graph_is_measured_anew(context: Context) -> None:
    auto(context, max_bytes=62_000)
    journal = context.work / "sensitivity.jsonl"
    count = journal.read_bytes().count(b"\n")
    calibration = calibration_of(context)
    calibration.paths[0].write_text(calibration.paths[0].read_text() + " 3")
    auto(context, max_bytes=62_000)
    assert journal.read_bytes().count(b"\n") == 2 * count
    write_tokenizer(calibration.tokenizer, context.dims.vocabulary - 1)  # the last word is unknown to it: token 0
    auto(replace(context, calibration=replace(calibration)), max_bytes=62_000)
    assert journal.read_bytes().count(b"\n") == 3 * count


@pytest.mark.parametrize(
    ("options", "where"),
    [
        (Options(), "recipe"),
        (Options(max_bytes=10, max_mean_kld=0.1), "recipe"),
        (Options(max_bytes=0), "recipe"),
        (Options(max_p999_kld=-0.1), "recipe"),
        (Options(max_bytes=10, candidates=()), "recipe: candidates"),
        (Options(max_bytes=10, candidates=(Storage(5),)), "recipe: candidates[0]: bits"),
        (Options(max_bytes=10, embedding_candidates=(Storage(4, 8),)), "recipe: embedding_candidates[0]: block"),
        (
            Options(max_bytes=10, position_candidates=(Storage(4, scheme="nf4"),)),
            "recipe: position_candidates[0]: scheme",
        ),
        (Options(max_bytes=10, candidates=(Storage(4, accuracy_level=9),)), "recipe: candidates[0]: accuracy_level"),
    ],
)
def test_options_that_cannot_be_are_refused_by_key(options: Options, where: str) -> None:
    with pytest.raises(RecipeError) as refusal:
        options.check("recipe")
    assert refusal.value.where == where
    Options(max_mean_kld=1e-3, max_p999_kld=1e-2).check("recipe")


def test_without_calibration_text_auto_and_gptq_are_refused(context: Context) -> None:
    context.calibration = None
    for step in ({"scheme": "auto", "max_bytes": 62_000}, {"scheme": "gptq", "bits": 4}):
        with pytest.raises(RecipeError, match="needs calibration text"):
            read_step(step, "x").apply(ir.load(context.graph), context)
