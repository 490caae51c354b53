"""A recipe that is written for a checkpoint is read, converts it, and asks what a hand-written one asks."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from convert.init import recipe_of
from pipeline.errors import InputError, RecipeError
from pipeline.recipe.recipe import Recipe, read_recipe
from tests.conftest import EMBEDDED, ROOT, Stage
from tests.support import tokenizer_sources
from tests.support.short_recipe import without_runtimes
from verify.interop import planned

SOURCE = ROOT / "recipes" / "embedded"


def written(source: str, home: Path) -> Recipe:
    path = home / "new.toml"
    path.write_text(recipe_of(source))
    return read_recipe(path)


@pytest.mark.parametrize("name", ["embedded", "embedded-llama", "embedded-qwen", "embedded-neox"])
def test_it_expects_what_the_checkpoint_is_and_asks_what_the_projects_own_recipe_asks(
    name: str, tmp_path: Path
) -> None:
    own = read_recipe(ROOT / "recipes" / f"{name}.toml")
    made = written(str(ROOT / "recipes" / name), tmp_path)
    made = replace(made, tolerances=own.tolerances)
    stated = {key: value for key, value in asdict(own.source.expect).items() if value is not None}
    assert asdict(made.source.expect).items() >= stated.items()
    assert (made.name, made.architecture) == (name, own.architecture)
    assert made.variants.keys() == own.variants.keys()
    assert (made.verify.checks, made.verify.levels) == (own.verify.checks, own.verify.levels)
    assert made.verify.runtimes.run == own.verify.runtimes.run
    assert made.verify.runtimes.require == own.verify.runtimes.require
    assert planned.plan(made, ["fp32", *made.variants])


def test_of_a_large_model_less_is_asked_where_that_takes_minutes(tmp_path: Path) -> None:
    """Of the sizes alone: no weight is read."""
    shutil.copyfile(SOURCE / "config.json", tmp_path / "config.json")
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"n_layer": 12, "n_embd": 512, "n_head": 8, "n_positions": 1024, "vocab_size": 50257}
    (tmp_path / "config.json").write_text(json.dumps(config))
    made = written(str(tmp_path), tmp_path)
    own = read_recipe(ROOT / "recipes" / "gpt-2-70m.toml")
    assert made.source.expect.parameters == own.source.expect.parameters
    assert made.source.expect.license is None
    places = (("browser", "webgpu"), ("browser", "plain, 2 threads"), ("processors", "AVX2, enable_all"))
    for runtime, configuration in places:
        for variant in ("fp32", "q4"):
            asked = [each.verify.runtimes.extent(runtime, variant, configuration) for each in (made, own)]
            assert asked[0] == asked[1], (runtime, configuration, variant)


def test_a_small_context_is_asked_what_it_holds(tmp_path: Path) -> None:
    made = written(str(tokenizer_sources.checkpoint(tmp_path / "tiny", 67)), tmp_path)
    context = made.source.expect.context
    assert context is not None
    assert max(made.verify.settings["logits"]["lengths"]) <= context
    assert made.verify.settings["divergence"]["chunk"] <= context


@pytest.mark.parametrize("source", ["no/such/place", "nothing", "./a/b"])
def test_what_is_neither_a_directory_nor_a_repository_is_refused(source: str) -> None:
    with pytest.raises(RecipeError, match="no directory here"):
        recipe_of(source)


def test_what_no_architecture_stands_for_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(InputError, match="'bert', which no architecture stands for"):
        recipe_of(str(tmp_path))


def test_names_and_licences_are_texts_whatever_is_in_them(tmp_path: Path) -> None:
    """A directory's name may hold quotes, a card's licence too."""
    home = tmp_path / 'a "b" \\ c'
    home.mkdir()
    shutil.copyfile(SOURCE / "config.json", home / "config.json")
    (home / "README.md").write_text("---\nlicense: 'x \"y\"'\n---\n")
    made = written(str(home), tmp_path)
    assert (made.name, made.source.expect.license) == ("a-b-c", 'x "y"')
    assert made.source.path == str(home)


@pytest.mark.slow
def test_what_is_written_converts_and_its_tolerances_are_measured_and_pass(stage: Stage, tmp_path: Path) -> None:
    """The way from a checkpoint to a passed verdict that the recipe's first lines state; of the runtimes only one."""
    text = stage("convert", "--init", SOURCE).stdout
    text = text.replace('"text/', f'"{EMBEDDED.parent}/text/').replace("chunks = 16", "chunks = 2")
    text = without_runtimes(text) + '\n[verify.runtimes]\nrun = ["transformersjs"]\n'
    recipe = tmp_path / "embedded.toml"
    recipe.write_text(text)
    for command in ("convert", "quantize"):
        stage(command, recipe, "--build", tmp_path, *(["--variant", "q8"] if command == "quantize" else []))
    options = (recipe, "--build", tmp_path, "--variant", "fp32", "q8")
    found = stage("verify", *options, "--no-runtimes", "--tolerances", "1.5", code=1).stdout
    recipe.write_text(text + found.replace('reason = ""', 'reason = "measured"'))
    report = json.loads((Path(stage("verify", *options).stdout.strip()) / "report.json").read_text())
    assert report["verdict"] == "passed"
    assert {candidate["variant"] for candidate in report["candidates"]} == {"fp32", "q8"}
    assert {result["runtime"] for result in report["results"]} == {"onnxruntime", "transformersjs"}
