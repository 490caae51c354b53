"""The trained Llama that comes with the project is converted, quantized and judged by its recipe, as users do it."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

from tests.conftest import Stage
from tests.support.short_recipe import LLAMA, shorter_recipe


@pytest.mark.slow
def test_its_variants_pass_every_check(tmp_path: Path, stage: Stage) -> None:
    recipe, home = shorter_recipe(tmp_path, LLAMA), tmp_path / "embedded-llama"
    stage("convert", recipe, "--build", tmp_path)
    stage("quantize", recipe, "--build", tmp_path, "--variant", "q4", "q4f16")
    graph = onnx.load(home / "fp32" / "onnx" / "model.onnx").graph
    assert {node.op_type for node in graph.node if node.domain} == {"QuickGelu", "RotaryEmbedding"}
    stage("verify", recipe, "--build", tmp_path, "--variant", "fp32", "q4", "q4f16")
    report = json.loads((home / "report" / "report.json").read_text())
    assert report["verdict"] == "passed"
    assert len({(entry["variant"], entry["check"]) for entry in report["results"]}) == 3 * 7
