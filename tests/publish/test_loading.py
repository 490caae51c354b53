"""The card says of each file which releases load it, if a file of its form was run; of others that it does not know."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from model import releases
from model.form import digest_of, form_of
from model.releases import File, ReleasedFile, Table
from pipeline.errors import ArtifactError
from pipeline.variants import FILES, model_file
from publish import card
from publish.loading import UNKNOWN, loading
from publish.tree import Publishable
from tests.support.publication import assembled


@pytest.fixture(scope="module")
def published(build: Path, tmp_path_factory: pytest.TempPathFactory) -> Publishable:
    return assembled(build / "embedded", tmp_path_factory.mktemp("published") / "tree")


@pytest.fixture
def table(published: Publishable) -> Table:
    """A made-up run of fp32 and q8 in two releases of onnxruntime and one of Transformers.js."""
    paths = {name: published.home / name / model_file(name) for name in ("fp32", "q8")}
    forms = {name: form_of(path) for name, path in paths.items()}
    verdicts = {"1.21.1": ("right", "refused"), "1.22.0": ("right", "right"), "1.29.0": ("differs", "right")}
    entries = [
        *(
            ReleasedFile(release, "python", f"onnxruntime {release}", variant, verdict)
            for release, both in verdicts.items()
            for variant, verdict in zip(paths, both, strict=True)
        ),
        *(ReleasedFile("4.0.1", "node", "onnxruntime-node 1.24.3", variant, "right") for variant in paths),
    ]
    files = {name: File(digest_of(form), form, "") for name, form in forms.items()}
    return Table("made up", "2026-01-02", "a command", "a processor", files, tuple(entries))


def test_every_file_has_what_was_measured_on_its_form(published: Publishable, table: Table) -> None:
    found = loading(published, [table])
    assert found is not None
    rows = dict(found.rows)
    assert rows["fp32"] == ("1.21.1 or later, not 1.29.0", "4.0.1 or later")
    assert rows["q8"] == ("1.22.0 or later", "4.0.1 or later")
    assert rows["q4"] == (UNKNOWN, UNKNOWN)
    assert list(rows) == [name for name in FILES if name in published.variants]
    assert len(rows) == 8
    assert (found.newest, found.dates) == (("1.29.0", "4.0.1"), ("2026-01-02",))


def test_nothing_is_said_of_files_of_other_forms(published: Publishable, table: Table) -> None:
    others = {name: replace(file, form="0" * 64) for name, file in table.files.items()}
    assert loading(published, [replace(table, files=others)]) is None
    assert loading(published, []) is None


def test_a_file_that_is_not_the_one_published_is_refused(published: Publishable, table: Table) -> None:
    files = tuple(
        replace(entry, sha256="0" * 64) if entry.path == model_file("q8") else entry for entry in published.files
    )
    with pytest.raises(ArtifactError, match="the file changed while it was published"):
        loading(replace(published, files=files), [table])


def test_the_card_shows_it(
    published: Publishable, table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(releases.read, "__defaults__", (tmp_path,))
    assert "## Which releases load it\n\nNot measured.\n\n## How" in card.render(published)
    (tmp_path / "made up.json").write_text(json.dumps(asdict(table)))
    _, _, text = card.render(published).partition("## Which releases load it\n\n")
    part, _, _ = text.partition("\n\n## How")
    lines = part.splitlines()
    assert lines[:4] == [
        "| dtype | onnxruntime | Transformers.js in Node |",
        "|---|---|---|",
        "| fp32 | 1.21.1 or later, not 1.29.0 | 4.0.1 or later |",
        "| fp16 | not measured | not measured |",
    ]
    assert part.endswith("(2026-01-02); the newest were 1.29.0 (onnxruntime), 4.0.1 (Transformers.js in Node).")
