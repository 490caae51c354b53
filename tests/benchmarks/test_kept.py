"""Find again what was judged once, by all that decides it and nothing less."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.kept import FILE, Kept
from benchmarks.results import FileFidelity
from pipeline.errors import InputError

FOUND = FileFidelity(1e-4, 1e-6, 2e-3, 0.99, 4080)


@pytest.fixture(name="model")
def a_model(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    path.mkdir()
    (path / "weights.bin").write_bytes(b"1")
    return path


def test_figures_are_found_by_all_that_decides_them(tmp_path: Path, model: Path) -> None:
    kept = Kept(tmp_path, {"text": "a"})
    key = kept.key("ours/q8", model)
    assert kept.find(key) is None
    kept.add(key, FOUND)
    again = Kept(tmp_path, {"text": "a"})
    assert again.find(again.key("ours/q8", model)) == FOUND
    assert again.find(again.key("ours/q4", model)) is None
    other = Kept(tmp_path, {"text": "b"})
    assert other.find(other.key("ours/q8", model)) is None
    (model / "weights.bin").write_bytes(b"2")
    assert again.find(again.key("ours/q8", model)) is None


def test_a_file_and_its_bytes_are_one_thing_wherever_it_lies(tmp_path: Path, model: Path) -> None:
    kept = Kept(tmp_path, {})
    key = kept.key("ours/q8", model / "weights.bin")
    assert key == kept.key("ours/q8", (model / "weights.bin").rename(tmp_path / "weights.bin"))


def test_what_is_not_finite_is_judged_again(tmp_path: Path) -> None:
    kept = Kept(tmp_path, {})
    kept.add("key", replace(FOUND, mean_kld=math.inf))
    assert kept.find("key") is None
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize("text", ["[]", '{"key": {"mean_kld": 1}}', '{"key": 1}', "{"])
def test_a_file_of_another_form_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(InputError) as caught:
        Kept(tmp_path, {})
    assert FILE in str(caught.value.where)
