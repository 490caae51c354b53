from __future__ import annotations

import re
import tomllib
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline import plugins
from pipeline.canonical import digest
from pipeline.errors import RecipeError
from pipeline.recipe.recipe import Expected, read_recipe
from pipeline.recipe.tolerances import Basis, Limit
from tests.conftest import ROOT
from tests.support import small_recipe
from tests.support.small_recipe import RECIPE, read, toml

path = small_recipe.path

repeatable = settings(
    deadline=None, derandomize=True, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def test_read_recipe(path: Path) -> None:
    recipe = read(path, RECIPE)
    assert (recipe.path, recipe.name, recipe.architecture) == (path, "tiny", "gpt2")
    assert (recipe.source.repository, recipe.source.revision) == ("someone/tiny", "main")
    assert recipe.source.expect == Expected(layers=2, tied=True, license="mit")
    assert not recipe.source.allow_pickle
    assert list(recipe.variants) == ["fp16", "q4f16"]
    assert recipe.variants["q4f16"].steps == ({"scheme": "rtn", "bits": 4}, {"scheme": "float16"})
    assert recipe.verify.checks == ("structure", "logits")
    assert recipe.verify.levels == ("disable_all", "enable_all")
    assert recipe.verify.settings == {"logits": {"cases": 3}}
    assert recipe.text_path == path.parent / "text" / "heldout.txt"
    assert recipe.limit("logits", "max_abs", "fp16") == Limit(bound=0.2, upper=True, measured=0.05)
    assert recipe.limit("logits", "agreement", "fp16") == Limit(bound=0.99, upper=False, measured=1.0)
    assert recipe.tolerances["logits"]["max_abs"].reason == "rounding of float32"
    assert recipe.basis == Basis()


def test_tolerances_say_what_they_rest_on(path: Path) -> None:
    own = '[tolerances]\nmeasured_on = ["AVX2", "SSE4.2"]\nlogits_range = 20\n\n[tolerances.logits.max_abs]'
    recipe = read(path, RECIPE.replace("[tolerances.logits.max_abs]", own))
    assert recipe.basis == Basis(("AVX2", "SSE4.2"), logits_range=20.0)
    assert recipe.tolerances == read(path, RECIPE).tolerances


def test_tolerances_may_be_left_out_and_variants_empty(path: Path) -> None:
    text = re.sub(r"(?ms)^\[tolerances.*", "", re.sub(r"(?m)^(fp16|q4f16) = \{ steps.*\n", "", RECIPE))
    recipe = read(path, text)
    assert not recipe.variants
    assert not recipe.tolerances


@pytest.mark.parametrize(
    ("check", "figure", "variant"),
    [
        ("logits", "max_abs", "q4f16"),
        ("logits", "agreement", "fp32"),
        ("logits", "other", "fp16"),
        ("cache", "x", "fp16"),
    ],
)
def test_a_figure_without_a_limit_is_refused(path: Path, check: str, figure: str, variant: str) -> None:
    recipe = read(path, RECIPE)
    with pytest.raises(RecipeError) as caught:
        recipe.limit(check, figure, variant)
    assert caught.value.what == f"no tolerance for variant {variant!r}"
    assert caught.value.where == f"{path}: tolerances.{check}.{figure}"
    assert caught.value.hint == f"add {variant} = {{ max = ..., measured = ... }} and a reason"


def test_registry_knows_what_has_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b.py", "a.py", "__init__.py", "notes.md", "below/c.py"):
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).touch()
    monkeypatch.setattr(plugins, "ROOT", tmp_path)
    assert plugins.names("folder") == ("a", "b")
    assert plugins.names("missing") == ()
    assert plugins.require("folder", "a", where="here") == "a"
    with pytest.raises(RecipeError, match="'c' does not exist"):
        plugins.require("folder", "c", where="here")


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("a.py", "B = False\nA: int = 3\nB = True\nraise SystemExit  # never run", None),
        ("a/__init__.py", "B = C = True", None),
        ("a.py", "B: bool = True", None),
        ("a.py", "B: bool", "B is missing"),
        ("a.py", "def f():\n    B = True", "B is missing"),
        ("a.py", "B = not False", "B is no literal"),
        ("a.py", "B = 1", "expected bool, found int 1"),
    ],
)
def test_registry_reads_a_constant_without_importing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, text: str, message: str | None
) -> None:
    path = tmp_path / "folder" / file
    path.parent.mkdir(parents=True)
    path.write_text(text)
    monkeypatch.setattr(plugins, "ROOT", tmp_path)
    if message is None:
        assert plugins.constant("folder", "a", "B", bool) is True
        return
    with pytest.raises(RecipeError, match=message) as refusal:
        plugins.constant("folder", "a", "B", bool)
    assert str(path) in refusal.value.where


def test_registry_does_not_depend_on_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "gpt2" in plugins.names("model/architectures")


@pytest.mark.parametrize("file", sorted((ROOT / "recipes").rglob("*.toml")), ids=lambda file: file.name)
def test_recipes_of_the_project_are_read(file: Path) -> None:
    recipe = read_recipe(file)
    assert recipe.text_path.is_file()
    assert bool(recipe.tolerances) is (file.parent.name != "unmeasured")


def test_toml_is_what_tomllib_reads() -> None:
    assert tomllib.loads(toml(tomllib.loads(RECIPE))) == tomllib.loads(RECIPE)


pieces = st.sampled_from([*re.findall(r"\w+|[^\w\s]|\n", RECIPE), "'", "\\", "inf", "nan", "1979-05-27", "0x1", '"""'])
characters = st.text(st.characters(exclude_categories=["Cs"]), max_size=3)


@repeatable
@given(st.data())
def test_text_changed_anywhere_is_read_or_refused(path: Path, data: st.DataObject) -> None:
    text = RECIPE
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = start + data.draw(st.integers(0, 10))
        text = text[:start] + data.draw(pieces | characters) + text[end:]
    read_or_refused(path, text)


scalars = st.booleans() | st.integers() | st.floats() | st.dates() | st.text(st.characters(codec="ascii"), max_size=5)
names = st.sampled_from(sorted(set(re.findall(r"\w+", RECIPE)))) | st.text("ab.", max_size=3)
values: st.SearchStrategy[Any] = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=6
)


@repeatable
@given(st.data())
def test_values_changed_anywhere_are_read_or_refused(path: Path, data: st.DataObject) -> None:
    table = tomllib.loads(RECIPE)
    at: Any = table
    while True:
        key = data.draw(st.sampled_from(range(len(at)) if isinstance(at, list) else sorted(at)))
        if not isinstance(at[key], dict | list) or not at[key] or data.draw(st.integers(0, 3)) == 0:
            break
        at = at[key]
    if isinstance(at, dict) and data.draw(st.booleans()):
        key = data.draw(names)
    at[key] = data.draw(values)
    read_or_refused(path, toml(table))


def read_or_refused(path: Path, text: str) -> None:
    try:
        recipe = read(path, text)
    except RecipeError as error:
        assert error.where.startswith(str(path))
        assert error.hint
        return
    assert recipe.verify.checks
    assert set(recipe.verify.checks) <= set(plugins.names("verify/checks"))
    limits = [
        limit
        for figures in recipe.tolerances.values()
        for tolerance in figures.values()
        for limit in tolerance.limits.values()
    ]
    assert all(0 <= limit.bound < float("inf") for limit in limits)


CALIBRATION = '[calibration]\ntext = "train.txt"\nchunk = 64\n\n[variants]'


def test_calibration_counts_for_the_variants_that_use_it(path: Path) -> None:
    text = path.parent / "train.txt"
    text.write_text("one")
    gptq = '{ scheme = "rtn", bits = 4, overrides = [{ tensors = "*", scheme = "gptq" }] }'
    calibrated = RECIPE.replace('{ scheme = "float16" }] }\nq4f16', gptq + "] }\nq4f16")

    def digests(recipe: str) -> tuple[str, str]:
        found = read(path, recipe)
        return found.variant_digest("fp16"), found.variant_digest("q4f16")

    without = digests(calibrated)
    first = digests(calibrated.replace("[variants]", CALIBRATION))
    assert (first[0] == without[0], first[1] == without[1]) == (False, True)
    other = digests(calibrated.replace("[variants]", CALIBRATION.replace("64", "32")))
    text.write_text("two")
    changed = digests(calibrated.replace("[variants]", CALIBRATION))
    assert len({first[0], other[0], changed[0]}) == 3
    text.unlink()
    recipe = read(path, calibrated.replace("[variants]", CALIBRATION))
    with pytest.raises(RecipeError, match="no file"):
        recipe.variant_digest("fp16")
    assert recipe.variant_digest("q4f16") == without[1]


def test_several_calibration_texts_count_and_one_counts_as_it_always_did(path: Path) -> None:
    for name in ("train.txt", "more.jsonl"):
        (path.parent / name).write_text("one")
    gptq = RECIPE.replace('{ scheme = "float16" }] }\nq4f16', '{ scheme = "gptq" }] }\nq4f16')

    def digest_of(text: str) -> str:
        return read(path, gptq.replace("[variants]", CALIBRATION.replace('"train.txt"', text))).variant_digest("fp16")

    calibration = {"text": "train.txt", "chunk": 64, "chunks": 32}
    steps = read(path, gptq).variants["fp16"].steps
    one = sha256(b"one").hexdigest()
    assert digest_of('"train.txt"') == digest({"steps": steps, "calibration": calibration, "text": one})
    both = digest_of('["train.txt", "more.jsonl"]')
    (path.parent / "more.jsonl").write_text("two")
    assert len({digest_of('"train.txt"'), both, digest_of('["train.txt", "more.jsonl"]')}) == 3


@pytest.mark.parametrize(
    ("table", "what"),
    [
        ('text = "a"\nchunk = 1', "must be positive"),
        ('text = "a"\nchunks = 0', "must be positive"),
        ("chunk = 512", "no text"),
        ('text = "a"\nlength = 5', "unknown key 'length'"),
        ("text = 5", "expected str, found int"),
        ("text = []", "no text"),
        ('text = ["a", ""]', "no text"),
    ],
)
def test_a_calibration_that_cannot_be_is_refused(path: Path, table: str, what: str) -> None:
    with pytest.raises(RecipeError, match=what) as refusal:
        read(path, RECIPE.replace("[variants]", f"[calibration]\n{table}\n\n[variants]"))
    assert ": calibration" in refusal.value.where
