"""Faults that runtimes must catch: who is asked about which, and that the questions' lengths are what catches them."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.errors import RecipeError
from pipeline.recipe.recipe import read_recipe
from pipeline.recipe.runtimes import Runtimes
from tests.conftest import EMBEDDED, Stage
from tests.support.short_recipe import with_checks, without_runtimes
from verify.emulation.emulator import Emulator
from verify.faults import asking, sweep
from verify.faults.bench import Bench
from verify.faults.fault import EVERY, VARIANTS, catalogue

FAULTS = catalogue()
ALONE = {"wrong_in_webassembly_beyond_32": "browser", "wrong_without_fused_products_beyond_32": "processors"}


def jobs(name: str, runtimes: tuple[str, ...], asked: Any = True) -> set[tuple[str, str | None]]:
    recipe = read_recipe(EMBEDDED)
    table = replace(recipe.verify.runtimes, run=runtimes)
    made = replace(recipe, verify=replace(recipe.verify, runtimes=table))
    bench: Any = SimpleNamespace(recipe=made, asking=asked or None)
    return {(variant, runtime) for _, variant, runtime in sweep._jobs(bench, [FAULTS[name]], VARIANTS)}


def test_a_fault_of_lengths_is_shown_to_the_checks_and_to_every_runtime() -> None:
    checks = {(variant, None) for variant in VARIANTS}
    assert jobs("pass_beyond_32", ("optimum", "genai")) == checks | {("fp32", "optimum"), ("fp32", "genai")}
    assert jobs("pass_beyond_32", ("optimum", "genai"), asked=False) == checks
    assert jobs("only_passes_of_127", ("optimum",)) == checks


@pytest.mark.parametrize(("name", "runtime"), ALONE.items())
def test_a_fault_of_one_runtime_is_shown_to_it_alone(name: str, runtime: str) -> None:
    assert jobs(name, ("optimum", "browser", "processors")) == {("fp32", runtime), ("q4", runtime)}
    assert jobs(name, ("optimum",)) == set()


def test_every_runtime_must_catch_what_is_wrong_beyond_each_power_of_two() -> None:
    everywhere = {name for name, entry in FAULTS.items() if entry.runtime == EVERY}
    wanted = {f"{kind}_beyond_{limit}" for kind in ("pass", "step") for limit in (32, 64, 128)}
    assert wanted | {"pass_near_the_context", "step_near_the_context"} <= everywhere


def test_a_runtime_that_is_not_installed_is_an_error_before_any_work() -> None:
    recipe = read_recipe(EMBEDDED)
    table = Runtimes(("transformersjs",), settings={"transformersjs": {"node": "no-such-node"}})
    made = replace(recipe, verify=replace(recipe.verify, runtimes=table))
    nobody: Any = None
    with pytest.raises(RecipeError, match="no-such-node"):
        asking.prepare(made, [FAULTS["pass_beyond_32"]], nobody, nobody)
    assert asking.prepare(made, [FAULTS["one_bias"]], nobody, nobody) is None
    bench: Any = SimpleNamespace(asking=None)
    with pytest.raises(RuntimeError, match="no questions are prepared"):
        Bench.ask(bench, "optimum", "fp32", Path())


def planted(
    build: Path, stage: Stage, directory: Path, lengths: str, code: int, runtimes: str = '"transformersjs"'
) -> dict[str, Any]:
    """The report on two faults that every runtime must catch, and on one of emulated processors alone."""
    own = Path(shutil.copytree(build, directory / "build"))
    text = EMBEDDED.read_text().replace('text = "text/', f'text = "{EMBEDDED.parent}/text/')
    text = with_checks(without_runtimes(text), ["logits", "cache"])  # which see the faults too
    table = f"[verify.runtimes]\nrun = [{runtimes}]\nlengths = [{lengths}]\n"
    settings = 'processors = { sets = ["SSE4.2"], levels = ["all"], rows = 1 }\n\n'
    path = directory / "embedded.toml"
    path.write_text(text.replace("[tolerances]\n", f"{table}{settings}[tolerances]\n", 1))
    names = ("pass_beyond_32", "step_beyond_32", "wrong_without_fused_products_beyond_32")
    stage("verify.faults", path, "--build", own, "--variant", "fp32", "--seeds", "0", "--only", *names, code=code)
    report: dict[str, Any] = json.loads((own / "embedded" / "faults" / "faults.json").read_text())
    return report


@pytest.mark.slow
def test_the_lengths_catch_what_short_questions_miss(build: Path, stage: Stage, tmp_path: Path) -> None:
    if Emulator("SSE4.2").missing() is not None and not os.environ.get("PIPELINE_CI"):
        pytest.skip("qemu-x86_64 is not installed")
    for name in ("long", "short"):
        (tmp_path / name).mkdir()
    long = planted(build, stage, tmp_path / "long", "33", 0, '"transformersjs", "processors"')
    assert (long["missed"], long["false_alarms"]) == ([], [])
    short = planted(build, stage, tmp_path / "short", "20", 1)
    assert set(short["missed"]) == {f"{name}_beyond_32 in fp32, transformersjs" for name in ("pass", "step")}
