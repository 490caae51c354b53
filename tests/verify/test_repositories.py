"""State what runtimes are given: the Hub's directory, with no other graph than the one that they are asked about."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tqdm import tqdm

from benchmarks.engine import open_site
from benchmarks.releases.loaders import Loader
from benchmarks.releases.run import measure
from pipeline.recipe.recipe import read_recipe
from pipeline.recipe.runtimes import Runtimes
from pipeline.variants import in_place
from tests.conftest import EMBEDDED
from tests.support.asking import files
from verify.interop.planned import Planned
from verify.interop.run_runtimes import _Inquiry
from verify.interop.runtime import Answers, Ask, Task
from verify.run_checks import Target


def listed(task: Task) -> Answers:
    """Answer with the graphs that are there."""
    return {"any": {"graphs": sorted(path.name for path in (task.repository / "onnx").iterdir())}}


@contextlib.contextmanager
def running(_settings: Any, _bounds: Any) -> Iterator[Ask]:
    yield listed


@pytest.mark.parametrize("second", [False, True], ids=["its own", "in place"])
def test_a_program_that_ignores_the_dtype_finds_no_other_graph(build: Path, tmp_path: Path, *, second: bool) -> None:
    targets: list[Target] = files(build, ["fp32", "q4"])
    if second:
        graph = targets[1].path.with_name("model_q4_in_place.onnx")
        targets[1] = Target(in_place("q4"), graph, data=(targets[1].path,))
    module: Any = SimpleNamespace(running=running, PARTS=(), IN_PLACE=True)
    runtime = Planned("any", module, None, None, lambda _: True)
    questions: Any = SimpleNamespace(asked=dict)
    inquiry = _Inquiry(targets, questions, Runtimes(), tqdm(disable=True), tmp_path)
    found = {target.variant: reply.answers["any"]["graphs"] for target, reply in inquiry._of(runtime, {})}  # type: ignore[index]
    read = ["model_q4.onnx", "model_q4_in_place.onnx"] if second else ["model_q4.onnx"]
    assert found == {"fp32": ["model.onnx"], targets[1].variant: read}


def test_an_older_release_is_given_no_other_graph_either(build: Path, tmp_path: Path) -> None:
    """Transformers.js 4.0 answers q2f16 with fp32's file where that is there."""
    script = tmp_path / "ask.py"
    script.write_text(
        "import json, pathlib, sys\n"
        "for line in sys.stdin:\n"
        "    there = sorted(p.name for p in pathlib.Path(json.loads(line)['model'], 'onnx').iterdir())\n"
        "    print(json.dumps({'error': ' '.join(there), 'stage': 'load'}), flush=True)\n"
    )
    site = open_site(read_recipe(EMBEDDED), build)
    loader = Loader("1", "node", "any", ("python3", str(script)), whole=True)
    found = measure(read_recipe(EMBEDDED), site, [loader])
    assert [entry.message for entry in found if entry.variant in {"fp32", "q4"}] == ["model.onnx", "model_q4.onnx"]
