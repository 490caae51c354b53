"""Test how often an explanation names the planted node (`verify.faults --explain`). The whole catalogue's figures are
stated in docs/decisions/0010; here a few faults of every kind must be named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from onnx import helper

from pipeline.recipe.recipe import read_recipe
from tests.conftest import EMBEDDED, ROOT
from verify import run_checks
from verify.faults import explained, table
from verify.faults.bench import Bench, Ground, shorter
from verify.faults.explained import Score
from verify.faults.fault import about, catalogue
from verify.faults.sweep import Finding
from verify.reference.corpus import Corpus
from verify.reference.model import Reference
from verify.sandbox.pool import Pool

CHECKS = ("logits", "cache", "twin")
FAULTS = {
    "fp32": (
        "attention_scale",
        "mask_wrong_for_the_second_row",
        "past_of_another_layer",
        "presents_swapped",
        "one_bias",
    ),
    "q4": ("one_scale_of_one_block", "positions_ignored", "own_token_unseen", "only_batches", "heads_swapped"),
}


@pytest.fixture(scope="module")
def bench(build: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    recipe, scratch = read_recipe(EMBEDDED), tmp_path_factory.mktemp("bench")
    modules = run_checks.plan(recipe, CHECKS)
    reference = Reference(ROOT / "recipes" / "embedded", allow_pickle=False)
    corpus = Corpus(recipe.text_path, reference.tokenizer, recipe.verify.seed)
    settings = shorter(run_checks.settings_of(recipe, modules))
    examination = run_checks.Examination(recipe, reference, corpus, modules, settings)
    ground = Ground.of(build / "embedded", reference, (700, 701, 702))
    return Bench(recipe, examination, examination.prepare(scratch), ground, scratch)


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(read_recipe(EMBEDDED).verify) as pool:
        yield pool


@pytest.mark.slow
@pytest.mark.parametrize("variant", FAULTS)
def test_the_planted_node_is_named(variant: str, bench: Bench, pool: Pool) -> None:
    faults = {name: catalogue()[name] for name in FAULTS[variant]}
    small = ("one_scale_of_one_block",)  # which only the twin shows
    findings = [
        Finding(name, variant, dict.fromkeys(CHECKS[2:] if name in small else CHECKS[:2], "")) for name in faults
    ]
    scores = explained.explain(bench, pool, faults, findings)
    found = {score.fault: score.score for score in scores}
    assert found == dict.fromkeys(faults, "exact")
    assert not list(bench.scratch.glob("*/planted"))


def test_what_was_not_caught_or_has_no_node(bench: Bench, pool: Pool) -> None:
    """A fault that no check caught is missed; one without a node, or not planted, is not counted."""
    names = ("one_bias", "opset_too_new", "zero_point_off_by_one")
    faults = {name: catalogue()[name] for name in names}
    findings = [Finding("one_bias", "q4"), Finding("opset_too_new", "q4", {"structure": ""})]
    findings.append(Finding("zero_point_off_by_one", "q4", not_applicable="no zero points"))
    (score,) = explained.explain(bench, pool, faults, findings)
    assert (score.fault, score.score, score.named, score.kind) == ("one_bias", "missed", None, "not caught")


def test_the_figures_and_the_table(bench: Bench) -> None:
    score = Score(
        "one_bias", "fp32", "transformer.h.1.mlp.c_fc", "exact", "exact", "node", "transformer.h.1.mlp.c_fc/Add"
    )
    others = [replace(score, variant="q4", score=how, named=None) for how in ("neighbour", "missed")]
    scores = [score, others[0], replace(others[1], fault="token_zeroed")]
    found = explained.figures(scores)
    assert found["fp32"] == {"of": 1, "exact": 1, "neighbour": 0, "missed": 0}
    assert found["all"] == {"of": 3, "exact": 1, "neighbour": 1, "missed": 1}
    assert "all: exact 1, exact or neighbour 2, of 3 (33% and 67%); the aim is 90%" in explained.summary(found)
    faults = {name: catalogue()[name] for name in ("one_bias", "token_zeroed")}
    findings = [Finding("one_bias", "fp32", {"logits": ""}), Finding("token_zeroed", "q4", {"logits": ""})]
    described = {name: about(entry, bench.ground.at) for name, entry in faults.items()}
    report = table.document("name", described, findings, [], scores)
    text = table.markdown(report, faults, findings)
    assert explained.summary(found) in text
    assert "exact: transformer.h.1.mlp.c_fc/Add |" in text
    assert "missed: node |" in text
    assert report["verdict"] == "passed"
    plain = table.document("name", described, findings, [])
    assert "node named" not in table.markdown(plain, faults, findings)


def test_the_planted_nodes_are_those_that_differ_or_read_what_differs() -> None:
    nodes = [helper.make_node("Add", ["x", "b"], [name], name=name) for name in ("one", "two")]
    nodes.append(helper.make_node("Add", ["x", "c"], ["three"]))
    weights = [helper.make_tensor(name, 1, [1], [1.0]) for name in ("b", "c")]
    clean = onnx.ModelProto(graph=helper.make_graph(nodes, "g", [], [], weights))
    faulty = onnx.ModelProto()
    faulty.CopyFrom(clean)
    assert explained.changed(clean, faulty) == set()
    faulty.graph.initializer[1].float_data[0] = 2
    faulty.graph.node[1].op_type = "Sub"
    assert explained.changed(clean, faulty) == {"two", "three"}
