from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnx
import pytest

from pipeline import plugins
from pipeline.artifact.manifest import FILE_NAME, Manifest
from pipeline.artifact.store import Artifact, open_artifact, seal, staging
from pipeline.command import run
from pipeline.errors import BROKEN_INPUT, PASSED, USAGE
from pipeline.recipe.recipe import read_recipe
from pipeline.variants import FILES, model_file
from quantize.__main__ import main
from quantize.stage import plan
from tests.support.calibrated import tokenizer, write_text
from tests.support.tiny_graph import ALIGNED, LEVELS, batch, session, tiny_model
from tests.support.tiny_graph import run as infer

VARIANTS = {
    "fp16": '[{ scheme = "float16" }]',
    "q8": '[{ scheme = "rtn", bits = 8 }]',
    "uint8": '[{ scheme = "rtn", bits = 8, symmetric = false }]',
    "q4": '[{ scheme = "rtn", bits = 4 }]',
    "q4f16": '[{ scheme = "rtn", bits = 4 }, { scheme = "float16" }]',
    "bnb4": '[{ scheme = "nf4" }]',
}
OTHER_FILES = {
    "config.json": b"{}",
    "generation_config.json": b'{"eos_token_id": 0}',
    "tokenizer.json": tokenizer(ALIGNED.vocabulary),
}
CALIBRATION = '[calibration]\ntext = "train.txt"\nchunk = 16\nchunks = 4\n'


def write_recipe(home: Path, variants: dict[str, str], calibration: str = "") -> Path:
    lines = "\n".join(f"{name} = {{ steps = {steps} }}" for name, steps in variants.items())
    architecture = plugins.names("model/architectures")[0]
    check = plugins.names("verify/checks")[0]
    path = home / "recipe.toml"
    path.write_text(
        f'name = "tiny"\narchitecture = "{architecture}"\n[source]\nrepository = "a/b"\n'
        f'{calibration}[variants]\n{lines}\n[verify]\ntext = "text.txt"\nchecks = ["{check}"]\n'
    )
    return path


def write_base(build: Path, **changes: Any) -> Artifact:
    model = tiny_model(ALIGNED)
    facts = {"dimensions": asdict(ALIGNED), "signature": {"a": 1}}
    fields: dict[str, Any] = {
        "kind": "model",
        "name": "tiny",
        "variant": "fp32",
        "source": {"repository": "a/b", "commit": None, "license": "mit"},
        "recipe": "r",
        "code": "c",
        "parents": {"source": "s"},
        "tools": {"torch": "0"},
        "facts": facts,
    }
    target = build / "tiny" / "fp32"
    with staging(target) as staged:
        (staged / "onnx").mkdir()
        onnx.save(model, staged / model_file("fp32"))
        for name, content in OTHER_FILES.items():
            (staged / name).write_bytes(content)
        return seal(staged, target, Manifest(**{**fields, **changes}))


@pytest.fixture(name="home", scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe and a build directory with fp32 and every variant. Tests must not change it."""
    home = tmp_path_factory.mktemp("quantize")
    write_base(home / "build")
    recipe = write_recipe(home, VARIANTS)
    assert run(main, [str(recipe), "--build", str(home / "build")]) == PASSED
    return home


Command = Callable[[Sequence[object]], tuple[int, str, str]]


@pytest.fixture(name="command")
def captured(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the stage; exit code, stdout, stderr."""

    def call(arguments: Sequence[object]) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run(main, [str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return call


def copied(home: Path, to: Path) -> Path:
    shutil.copytree(home, to / "copy")
    return to / "copy"


def test_every_variant_is_an_artifact_that_names_its_making(home: Path) -> None:
    base = open_artifact(home / "build/tiny/fp32", made_by="test")
    recipes = set()
    for name in VARIANTS:
        artifact = open_artifact(home / "build/tiny" / name, made_by="test")
        manifest = artifact.manifest
        assert (manifest.kind, manifest.name, manifest.variant) == ("model", "tiny", name)
        assert manifest.parents == {"fp32": base.digest}
        assert manifest.source == base.manifest.source
        assert manifest.facts == base.manifest.facts
        assert set(manifest.tools) == {
            "numba", "numpy", "onnx", "onnx-ir", "onnxruntime", "scipy", "tokenizers", "torch", "transformers",
        }  # fmt: skip
        assert {entry.path for entry in manifest.files} == {*OTHER_FILES, f"onnx/{FILES[name]}"}
        for other, content in OTHER_FILES.items():
            assert (artifact.path / other).read_bytes() == content
        recipes.add(manifest.recipe)
    assert len(recipes) == len(VARIANTS)
    assert not [path for path in (home / "build/tiny").iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_runs_and_is_smaller_than_fp32(home: Path, name: str, level: str) -> None:
    ids, mask = batch(ALIGNED)
    paths = {variant: home / "build/tiny" / variant / model_file(variant) for variant in ("fp32", name)}
    wanted, got = (infer(session(onnx.load(path), level), ids, mask)[0] for path in paths.values())
    assert ((got - wanted)[mask == 1] ** 2).sum() < 0.05 * (wanted[mask == 1] ** 2).sum()
    assert paths[name].stat().st_size < 0.65 * paths["fp32"].stat().st_size


def test_a_second_run_writes_the_same_bytes(home: Path, tmp_path: Path, command: Command) -> None:
    shutil.copytree(home / "build/tiny/fp32", tmp_path / "tiny/fp32")
    code, out, _ = command([home / "recipe.toml", "--build", tmp_path])
    assert code == PASSED
    assert out.splitlines() == [str(tmp_path / "tiny" / name) for name in VARIANTS]
    for name in VARIANTS:
        for path in sorted((tmp_path / "tiny" / name).rglob("*.*")):
            assert path.read_bytes() == (home / "build" / path.relative_to(tmp_path)).read_bytes(), path


def test_unchanged_variants_are_skipped_and_changed_ones_made_again(
    home: Path, tmp_path: Path, command: Command
) -> None:
    copy = copied(home, tmp_path)
    arguments = [copy / "recipe.toml", "--build", copy / "build"]
    code, out, err = command(arguments)
    assert code == PASSED
    assert err.count("unchanged, skipped") == len(VARIANTS)
    assert len(out.splitlines()) == len(VARIANTS)
    write_recipe(copy, {**VARIANTS, "q8": '[{ scheme = "rtn", bits = 8, block = 64 }]'})
    _, _, err = command(arguments)
    assert err.count("unchanged, skipped") == len(VARIANTS) - 1
    assert "q8: unchanged" not in err
    (copy / "build/tiny/q4" / model_file("q4")).write_bytes(b"damaged")
    _, _, err = command(arguments)
    assert "q4: unchanged" not in err
    open_artifact(copy / "build/tiny/q4", made_by="test")


def test_another_fp32_makes_every_variant_stale(home: Path, tmp_path: Path, command: Command) -> None:
    copy = copied(home, tmp_path)
    write_base(copy / "build", code="changed")
    _, _, err = command([copy / "recipe.toml", "--build", copy / "build"])
    assert "skipped" not in err


def test_calibrated_variants_are_made_from_the_text_and_made_again_when_it_changes(
    tmp_path: Path, command: Command
) -> None:
    auto = (
        '[{ scheme = "auto", max_bytes = 150000, candidates = [{ bits = 4 }, { bits = 8 }], embedding_candidates = [{ '
        "bits = 8 }] }]"
    )
    variants = {**VARIANTS, "q4": '[{ scheme = "gptq", bits = 4 }]', "int8": auto}
    write_base(tmp_path / "build")
    write_text(tmp_path / "train.txt", 1600)
    recipe = write_recipe(tmp_path, variants, CALIBRATION)
    arguments = [recipe, "--build", tmp_path / "build", "--variant", "q4", "int8", "q8"]
    assert command(arguments)[0] == PASSED
    artifact = open_artifact(tmp_path / "build/tiny/int8", made_by="test")
    plan = artifact.manifest.facts["plan"]
    assert plan["bytes"] == (artifact.path / model_file("int8")).stat().st_size <= 150_000
    assert {"wte.weight", "wpe.weight", "h.0.in.weight"} <= plan["tensors"].keys()
    _, _, err = command(arguments)
    assert err.count("unchanged, skipped") == 3
    write_text(tmp_path / "train.txt", 1700)
    _, _, err = command(arguments)
    assert [name for name in ("q8", "q4", "int8") if f"{name}: unchanged" in err] == ["q8"]
    write_recipe(tmp_path, variants)
    code, _, err = command(arguments)
    assert (code, "gptq needs calibration text" in err, ": variants.q4.steps[0]\n" in err) == (USAGE, True, True)


def test_text_of_the_model_s_own_is_recorded_and_another_seed_makes_calibrated_variants_again(
    tmp_path: Path, command: Command
) -> None:
    variants = {**VARIANTS, "q4": '[{ scheme = "gptq", bits = 4 }]'}
    write_base(tmp_path / "build")
    write_text(tmp_path / "train.txt", 1600)
    recipe = write_recipe(tmp_path, variants, f"{CALIBRATION}sampled = 0.5\n")
    arguments = [recipe, "--build", tmp_path / "build", "--variant", "q4", "q8"]
    assert command(arguments)[0] == PASSED
    facts = {
        name: open_artifact(tmp_path / f"build/tiny/{name}", made_by="test").manifest.facts for name in ("q4", "q8")
    }
    assert (facts["q4"]["sampled"]["chunks"], "sampled" in facts["q8"]) == (2 + 2 + 3, False)
    assert command(arguments)[2].count("unchanged, skipped") == 2
    write_recipe(tmp_path, variants, f"{CALIBRATION}sampled = 0.5\nseed = 1\n")
    assert ("q4: unchanged" in (err := command(arguments)[2]), "q8: unchanged" in err) == (False, True)


def test_only_the_named_variants_are_made_in_the_recipes_order(home: Path, tmp_path: Path, command: Command) -> None:
    shutil.copytree(home / "build/tiny/fp32", tmp_path / "tiny/fp32")
    code, out, _ = command([home / "recipe.toml", "--build", tmp_path, "--variant", "q4", "q8", "--variant", "q4"])
    assert (code, out.split()) == (PASSED, [str(tmp_path / "tiny/q8"), str(tmp_path / "tiny/q4")])
    assert sorted(path.name for path in (tmp_path / "tiny").iterdir()) == ["fp32", "q4", "q8"]
    code, out, err = command([home / "recipe.toml", "--build", tmp_path, "--variant", "q5"])
    assert (code, out) == (USAGE, "")
    assert "q4f16" in err


@pytest.mark.parametrize(
    ("steps", "key"),
    [
        ('[{ scheme = "rtn", bits = 4, blok = 32 }]', "blok"),
        ('[{ scheme = "rtn" }]', "bits"),
        ('[{ scheme = "rtn", bits = 4.0 }]', "steps[0]: bits"),
        ('[{ scheme = "rtn", bits = true }]', "steps[0]: bits"),
        ('[{ scheme = "rtn", bits = 5 }]', "steps[0]: bits"),
        ('[{ scheme = "rtn", bits = 4, block = 33 }]', "steps[0]: block"),
        ('[{ scheme = "rtn", bits = 4 }, { scheme = "float16", float32 = ["Sofmax"] }]', "steps[1]: float32"),
        ('[{ scheme = "nf4", symmetric = true }]', "symmetric"),
    ],
)
def test_wrong_options_are_refused_before_any_work(
    home: Path, tmp_path: Path, command: Command, steps: str, key: str
) -> None:
    shutil.copytree(home / "build/tiny/fp32", tmp_path / "build/tiny/fp32")
    recipe = write_recipe(tmp_path, {"q8": VARIANTS["q8"], "q4": steps})
    code, out, err = command([recipe, "--build", tmp_path / "build", "--variant", "q8"])
    assert (code, out) == (USAGE, "")
    assert "variants.q4" in err
    assert key in err
    assert [path.name for path in (tmp_path / "build/tiny").iterdir()] == ["fp32"]


def test_what_fails_while_a_variant_is_made_names_the_variant(home: Path, tmp_path: Path, command: Command) -> None:
    shutil.copytree(home, tmp_path, dirs_exist_ok=True)
    step = '[{ scheme = "rtn", bits = 8, overrides = [{ tensors = "h.7.*", bits = 4 }] }]'
    recipe = write_recipe(tmp_path, {**VARIANTS, "int8": step})
    code, _, err = command([recipe, "--build", tmp_path / "build"])
    assert code == USAGE
    assert f"  where: {recipe}: variants.int8: overrides[0]: tensors\n" in err


def test_a_missing_or_foreign_fp32_is_refused_with_what_to_run(home: Path, tmp_path: Path, command: Command) -> None:
    arguments = [home / "recipe.toml", "--build", tmp_path]
    code, _, err = command(arguments)
    assert code == BROKEN_INPUT
    assert "python -m convert" in err
    wrong: list[dict[str, Any]] = [{"variant": "q8"}, {"name": "other"}, {"kind": "report"}, {"facts": {}}]
    for changes in wrong:
        write_base(tmp_path, **changes)
        code, out, err = command(arguments)
        assert (code, out) == (BROKEN_INPUT, "")
        assert str(tmp_path / "tiny/fp32") in err


def test_a_graph_that_is_no_model_is_refused(home: Path, tmp_path: Path, command: Command) -> None:
    base = write_base(tmp_path / "other")
    target = tmp_path / "build/tiny/fp32"
    with staging(target) as staged:
        shutil.copytree(base.path, staged, dirs_exist_ok=True, ignore=shutil.ignore_patterns(FILE_NAME))
        (staged / model_file("fp32")).write_bytes(b"\x08\x08 not protobuf")
        seal(staged, target, base.manifest)
    code, out, err = command([home / "recipe.toml", "--build", tmp_path / "build"])
    assert (code, out) == (BROKEN_INPUT, "")
    assert "model.onnx" in err
    assert [path.name for path in target.parent.iterdir()] == ["fp32"]


def test_help_needs_no_heavy_library() -> None:
    code = "import sys; import quantize.__main__; print(sorted({'numpy', 'onnx', 'onnx_ir'} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], cwd=plugins.ROOT, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_the_project_s_own_recipes_are_understood() -> None:
    for path in sorted((plugins.ROOT / "recipes").rglob("*.toml")):
        recipe = read_recipe(path)
        for name in recipe.variants:
            assert plan(recipe, name)
