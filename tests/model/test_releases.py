"""Test what is kept about releases: ranges derived from it, and that it is about the files that are made now."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.releases.catalogue import NODE, PYTHON, RELEASES
from benchmarks.releases.report import page
from model.form import digest_of, form_of
from model.releases import DIFFERS, FAILS, FOLDER, REFUSED, RIGHT, Range, ReleasedFile, measured, range_of, read
from pipeline.canonical import read_json
from pipeline.errors import InputError
from pipeline.recipe.recipe import read_recipe
from pipeline.variants import model_file
from tests.conftest import EMBEDDED
from verify.runtimes import transformersjs

AGAIN = "run: python -m benchmarks.releases recipes/embedded.toml --keep"


def entries(verdicts: str) -> list[ReleasedFile]:
    """Entries of the releases 0, 1, 2, ...; each letter is a verdict's first."""
    names = {verdict[0]: verdict for verdict in (RIGHT, DIFFERS, FAILS)} | {"x": REFUSED}
    return [ReleasedFile(str(i), "python", "an engine", "q8", names[letter]) for i, letter in enumerate(verdicts)]


@pytest.mark.parametrize(
    ("verdicts", "since", "oldest", "but", "text"),
    [
        ("rrr", "0", True, (), "0 or later"),
        ("xxr", "2", False, (), "2 or later"),
        ("xrdr", "1", False, ("2",), "1 or later, not 2"),
        ("rddr", "0", True, ("1", "2"), "0 or later, not 1 or 2"),
        ("ddrr", "2", False, (), "2 or later"),
        ("rxr", "2", False, (), "2 or later"),
        ("rfr", "2", False, (), "2 or later"),
        ("rrx", None, False, (), "none"),
        ("dd", None, False, (), "none"),
        ("", None, False, (), "none"),
    ],
)
def test_a_range_begins_after_the_last_that_cannot(
    verdicts: str, since: str | None, oldest: bool, but: tuple[str, ...], text: str
) -> None:
    found = range_of(entries(verdicts))
    assert found == Range(since, oldest, but)
    assert str(found) == text


@given(st.text("rdfx", max_size=12))
def test_a_range_holds_every_release_in_it_but_those_named(verdicts: str) -> None:
    found = range_of(entries(verdicts))
    if found.since is None:
        assert not verdicts.rstrip("d").endswith("r")
        return
    inside = range(int(found.since), len(verdicts))
    assert all((verdicts[i] == RIGHT[0]) is (str(i) not in found.but) for i in inside)
    assert {verdicts[int(name)] for name in found.but} <= {"d"}


def test_a_damaged_table_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"name": "x"}')
    with pytest.raises(InputError, match="missing key 'date'"):
        read(tmp_path)


def test_the_page_is_made_from_what_is_kept() -> None:
    assert FOLDER.with_suffix(".md").read_text(encoding="utf-8") == page(read()), AGAIN


def test_the_embedded_models_files_have_the_forms_that_were_measured(build: Path) -> None:
    tables = [table for table in read() if table.name == "embedded"]
    for variant in ("fp32", *read_recipe(EMBEDDED).variants):
        form = digest_of(form_of(build / "embedded" / variant / model_file(variant)))
        found = measured(form, tables)
        assert found is not None, f"the form of {variant} is another than the one that releases were run with; {AGAIN}"
        assert found[1] == variant


def test_every_release_was_run_and_the_installed_ones_are_among_them() -> None:
    table = next(table for table in read() if table.name == "embedded")
    programs = {PYTHON: "python", NODE: "node"}
    run = {(entry.program, entry.release, entry.variant) for entry in table.entries}
    for release in RELEASES:
        for variant in table.files:
            assert (programs[release.group], release.version, variant) in run, AGAIN
    pinned = read_json(transformersjs.HERE / "package.json")["dependencies"]["@huggingface/transformers"]
    listed = {(release.group, release.version) for release in RELEASES}
    assert {(PYTHON, version("onnxruntime")), (NODE, pinned)} <= listed, "add the release to the catalogue, and run it"
