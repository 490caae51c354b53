"""The trained models of other families that come along are converted, quantized and judged by their recipes."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

from tests.conftest import Stage
from tests.support.short_recipe import LLAMA, NEOX, QWEN, shorter_recipe


@pytest.mark.slow
@pytest.mark.parametrize(
    ("own", "operators", "variants"),
    [
        (LLAMA, {"QuickGelu", "RotaryEmbedding"}, ("q4", "q4f16")),
        (QWEN, {"QuickGelu", "RotaryEmbedding"}, ("q4", "q4f16")),
        (NEOX, {"Gelu", "RotaryEmbedding"}, ("q8", "fp16")),
    ],
    ids=lambda value: value.stem if isinstance(value, Path) else "",
)
def test_their_variants_pass_every_check(
    own: Path, operators: set[str], variants: tuple[str, str], tmp_path: Path, stage: Stage
) -> None:
    recipe, home = shorter_recipe(tmp_path, own), tmp_path / own.stem
    # As many steps as the shares of near ties were measured on: of a dozen, one is too many.
    recipe.write_text(recipe.read_text().replace("new_tokens = 12\nprompts = [5, 9]\n", ""))
    stage("convert", recipe, "--build", tmp_path)
    stage("quantize", recipe, "--build", tmp_path, "--variant", *variants)
    graph = onnx.load(home / "fp32" / "onnx" / "model.onnx").graph
    assert {node.op_type for node in graph.node if node.domain} == operators
    stage("verify", recipe, "--build", tmp_path, "--variant", "fp32", *variants)
    report = json.loads((home / "report" / "report.json").read_text())
    assert report["verdict"] == "passed"
    assert len({(entry["variant"], entry["check"]) for entry in report["results"]}) == 3 * 7
