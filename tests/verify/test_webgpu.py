"""WebGPU as a configuration of the browser: what runs there, what cannot, and what a recipe that requires it says."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from pipeline.errors import RecipeError
from pipeline.recipe.recipe import Recipe
from pipeline.recipe.runtimes import Fewer
from tests.conftest import EMBEDDED, ROOT, Stage
from tests.support.asking import failures, files, levels, outcome, shorter
from tests.support.one_operator_attention import with_one_operator
from verify.interop import planned
from verify.interop.runtime import RuntimeFailure
from verify.reference.model import Reference
from verify.report import document
from verify.run_checks import Target
from verify.runtimes import browser
from verify.runtimes.browser import HIDDEN, WEBGPU, PageSetup, Settings, adapter, driver
from verify.runtimes.browser.adapter import Adapter

SOFTWARE = Adapter("google swiftshader", software=True, subgroups=(4, 4), half=False)


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference(ROOT / "recipes" / "embedded", allow_pickle=False)


@pytest.fixture
def fresh() -> Any:
    """No adapter is remembered from another test."""
    driver._adapter.cache_clear()
    yield
    driver._adapter.cache_clear()


def only(*names: str, prompt: int = 33) -> Recipe:
    """A recipe that asks for a few configurations of the browser, of one text, and requires those of WebGPU."""
    webgpu = [name for name in names if name.startswith(WEBGPU)]
    wasm = {"builds": ["plain"], "threads": [1]} if len(webgpu) < len(names) else {"builds": []}
    recipe = shorter("browser", webgpu=webgpu, **wasm)
    required = tuple(f"browser, {name}" for name in webgpu)
    runtimes = replace(recipe.verify.runtimes, prompts=(prompt,), new_tokens=3, timeout_s=900, require=required)
    return replace(recipe, verify=replace(recipe.verify, runtimes=runtimes))


@pytest.mark.slow
def test_the_standard_graph_is_right_on_webgpu_beyond_32_tokens(
    reference: Reference, stage: Stage, tmp_path: Path
) -> None:
    """With the adapter's subgroups: the report names both."""
    recipe = tmp_path / "standard.toml"
    text = EMBEDDED.read_text().replace('path = "embedded"', f'path = "{EMBEDDED.parent / "embedded"}"')
    recipe.write_text(text.replace('architecture = "gpt2"\n', 'architecture = "gpt2"\ngraph = "standard"\n'))
    stage("convert", recipe, "--build", tmp_path)
    found = outcome(only(WEBGPU), reference, files(tmp_path, ["fp32"]))
    assert (failures(found), found.not_run) == ([], [])
    assert {result.level for result in found.results} == levels(WEBGPU)
    settings = Settings()
    assert "WebGPU: google swiftshader (software), subgroups of 4, no shader-f16" in browser.version(settings)


@pytest.mark.slow
def test_attention_in_one_operator_is_wrong_beyond_32_tokens_unless_subgroups_are_hidden(
    reference: Reference, build: Path, tmp_path: Path
) -> None:
    """The fused graph as it was, which no other runtime finds fault with."""
    own = browser._adapter(Settings())
    if isinstance(own, Adapter) and own.subgroups != SOFTWARE.subgroups:
        pytest.skip(f"onnxruntime's kernel is wrong where a subgroup has 4 lanes, not on {own.text}")
    directory = Path(shutil.copytree(build / "embedded" / "fp32", tmp_path / "fp32"))
    graph = directory / "onnx" / "model.onnx"
    sizes = reference.dimensions
    onnx.save(with_one_operator(onnx.load(graph), sizes.layers, sizes.heads), graph)
    found = outcome(only("plain, 1 thread", WEBGPU, HIDDEN), reference, [Target("fp32", graph)])
    assert {result.level for result in found.results} >= {"plain, 1 thread", WEBGPU, HIDDEN}
    wrong = [result for result in found.results if not result.passed]
    assert {result.level for result in wrong} <= levels(WEBGPU)
    assert {result.runtime for result in wrong} == {"browser"}
    errors = [
        judged.measure.value for result in wrong for judged in result.measures if judged.measure.name == "max_abs"
    ]
    assert max(errors) > 0.1


@pytest.mark.slow
@pytest.mark.usefixtures("fresh")
def test_without_an_adapter_it_is_not_run_which_gives_no_pass_where_it_is_required(
    reference: Reference, build: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Chromium that is not asked for its adapter in software has none; WebAssembly alone is not what was required."""
    monkeypatch.setitem(driver.GRAPHICS, "webgpu", ("--disable-gpu",))
    found = outcome(only("plain, 1 thread", WEBGPU, prompt=6), reference, files(build, ["fp32"]))
    assert (failures(found), {result.level for result in found.results}) == ([], levels("plain, 1 thread"))
    (entry,) = found.not_run
    assert (entry.what, entry.required) == (f"browser, {WEBGPU}", True)
    assert entry.reason.startswith("a WebGPU adapter is not offered by Chromium")
    header = {"not_run": [vars(entry)], "prompts": None}
    assert document.document(found.results, header)["verdict"] == "failed"
    assert document.document(found.results, {"not_run": [], "prompts": None})["verdict"] == "passed"


@pytest.mark.slow
def test_without_a_dtype_transformers_js_takes_the_recipes_default_on_webgpu(
    reference: Reference, build: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The only graph there is q4: Transformers.js' own default, fp32, would be missing."""
    call = driver.Browser.call

    def unnamed(self: Any, device: str, calls: Any, *rest: Any) -> Any:
        return call(self, device, [{**entry, "dtype": None} for entry in calls], *rest)

    monkeypatch.setattr(driver.Browser, "call", unnamed)
    recipe = only(WEBGPU, prompt=6)
    fewer = (Fewer("browser", "which file is loaded shows by any text", longest=0),)
    recipe = replace(recipe, verify=replace(recipe.verify, runtimes=replace(recipe.verify.runtimes, fewer=fewer)))
    found = outcome(recipe, reference, files(build, ["q4"]))
    assert (failures(found), [entry for entry in found.not_run if not entry.part]) == ([], [])
    assert found.results


@pytest.mark.slow
def test_float16_is_not_run_where_the_adapter_has_none(
    reference: Reference, build: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is the graph without its roundings, which has no float16: nothing would be compared with its answers."""
    own = browser._adapter(Settings())
    if isinstance(own, Adapter) and own.half:
        pytest.skip("this machine's adapter has shader-f16")
    monkeypatch.setattr(driver.Browser, "call", None)
    found = outcome(only(WEBGPU, HIDDEN), reference, files(build, ["fp16", "q4f16"]))
    assert found.results == []
    wanted = [f"browser, {name}: {variant}" for variant in ("fp16", "q4f16") for name in (WEBGPU, HIDDEN)]
    assert [entry.what for entry in found.not_run] == wanted
    assert all("no shader-f16" in entry.reason for entry in found.not_run)


def answered(**changed: Any) -> dict[str, Any]:
    page = {"vendor": "google", "architecture": "swiftshader", "description": "", "software": True, "features": []}
    own = {**page, "subgroupMinSize": 4, "subgroupMaxSize": 4}
    found = {"parts": {"texts": []}, "given": 1, "isolated": True, "adapter": own, "kernels": 9}
    return {"problems": [], "found": {**found, **changed}}


@pytest.mark.parametrize(
    ("hidden", "changed", "words"),
    [
        (False, {"kernels": 0}, "nothing ran on its adapter"),
        (True, {"adapter": {**answered()["found"]["adapter"], "features": ["subgroups"]}}, "the page sees them"),
        (False, {"given": 2}, "1 threads asked, 2 given"),
    ],
)
def test_an_answer_that_did_not_come_from_what_was_asked_is_none(
    hidden: bool, changed: dict[str, Any], words: str
) -> None:
    asked = PageSetup("x", "webgpu", "y", hidden=hidden)
    assert browser._parts(asked, answered()) == {"texts": []}
    failure = browser._parts(asked, answered(**changed))
    assert isinstance(failure, RuntimeFailure)
    assert words in str(failure)


def test_an_adapter_in_words() -> None:
    page = answered()["found"]["adapter"]
    assert adapter.read(None) is None
    found = adapter.read({**page, "features": ["subgroups"]})
    assert found == SOFTWARE
    assert SOFTWARE.text == "google swiftshader (software), subgroups of 4, no shader-f16"
    hardware = {**page, "software": False, "subgroupMaxSize": 64, "features": ["shader-f16", "subgroups"]}
    own = adapter.read(hardware)
    assert own is not None
    assert own.text == "google swiftshader, subgroups of 4 to 64, with shader-f16"
    bare = adapter.read(page)
    assert bare is not None
    assert bare.text.endswith("no subgroups, no shader-f16")


@pytest.mark.parametrize("place", ["weight", "input", "cast", "constant", None])
def test_float16_is_seen_wherever_a_graph_has_it(place: str | None, tmp_path: Path) -> None:
    half, single = TensorProto.FLOAT16, TensorProto.FLOAT
    kind = half if place == "input" else single
    nodes = [helper.make_node("Cast", ["x"], ["y"], to=half if place == "cast" else single)]
    weights = [helper.make_tensor("w", half if place == "weight" else single, [1], [1.0])]
    if place == "constant":
        nodes.append(helper.make_node("Constant", [], ["c"], value=helper.make_tensor("v", half, [1], [1.0])))
    ports = [helper.make_tensor_value_info("x", kind, [1])], [helper.make_tensor_value_info("y", single, [1])]
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", *ports, weights)), tmp_path / "m.onnx")
    reason = adapter.lacks(SOFTWARE, onnx.load(tmp_path / "m.onnx"))
    assert (reason is None) == (place is None)
    assert adapter.lacks(replace(SOFTWARE, half=True), onnx.load(tmp_path / "m.onnx")) is None


def test_required_is_what_the_recipe_names() -> None:
    runtimes = only(WEBGPU).verify.runtimes
    assert runtimes.requires("browser")
    assert runtimes.requires("browser", WEBGPU)
    assert not runtimes.requires("browser", HIDDEN)
    assert not runtimes.requires("genai")
    everything = replace(runtimes, require=("browser",))
    assert everything.requires("browser", HIDDEN)


@pytest.mark.parametrize(
    ("settings", "require", "message"),
    [
        ({"webgpu": ["webgpu, hidden"]}, "browser", "no configuration 'webgpu, hidden'"),
        ({"webgpu": [], "builds": []}, "browser", "nothing to run"),
        ({"webgpu": []}, "browser, webgpu", "no configuration 'browser, webgpu'"),
        ({}, "browser, webgpi", "did you mean 'webgpu'"),
    ],
)
def test_what_cannot_be_required_is_refused(settings: dict[str, Any], require: str, message: str) -> None:
    recipe = shorter("browser", **settings)
    runtimes = replace(recipe.verify.runtimes, require=(require,))
    with pytest.raises(RecipeError, match=message):
        planned.plan(replace(recipe, verify=replace(recipe.verify, runtimes=runtimes)), ["fp32"])
