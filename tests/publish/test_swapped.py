"""Test what is looked at is what is published: a file that is swapped in between, by whatever means, is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.artifact import store
from publish import assemble, evidence
from publish.hub import Hub
from publish.tree import Publishable
from tests.support import rehearsing
from tests.support.local_hub import LocalHub
from tests.support.rehearsing import Build, Publisher, offline

server, hub, publish = rehearsing.server, rehearsing.hub, rehearsing.publish
build = rehearsing.build


def swap(place: Path, *, link: bool) -> None:
    """Another file where one lies, put there in one step, as whoever means it would."""
    aside = place.with_name("aside")
    if link:
        (place.parents[3] / "elsewhere").write_bytes(b"swapped")
        aside.symlink_to(place.parents[3] / "elsewhere")
    else:
        aside.write_bytes(b"swapped")
    aside.replace(place)


@pytest.mark.parametrize("link", [False, True])
@pytest.mark.parametrize(
    "name", ["q8/onnx/model_quantized.onnx", "fp32/config.json", "report/report.json", "source/README.md"]
)
def test_a_file_that_is_swapped_once_it_was_looked_at_is_not_published(
    build: Build, monkeypatch: pytest.MonkeyPatch, name: str, link: bool
) -> None:
    gather = evidence.gather

    def late(*words: Any, own_prompts: bool) -> Publishable:
        found = gather(*words, own_prompts=own_prompts)
        swap(build.home / "small" / name, link=link)
        return found

    offline(build)
    before = Publisher(build, "someone/small").expected
    monkeypatch.setattr(evidence, "gather", late)
    assert "the file changed while it was published" in offline(build, code=3)
    assert Publisher(build, "someone/small").expected == before


def test_the_report_is_the_one_whose_digest_was_looked_at(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """A report that failed, with one that passed put in its place for as long as it is read."""
    build.report(build.parents(), verdict="failed")
    place = build.home / "small" / "report" / "report.json"
    failed, open_artifact = place.read_text(), store.open_artifact

    def late(path: Path, *, made_by: str) -> store.Artifact:
        found = open_artifact(path, made_by=made_by)
        if path == place.parent:
            place.write_text(failed.replace('"failed"', '"passed"'))
        return found

    monkeypatch.setattr(store, "open_artifact", late)
    assert "the report changed while it was read" in offline(build, code=3)


@pytest.mark.parametrize("name", ["onnx/model_quantized.onnx", "README.md", "manifest.json"])
def test_a_file_that_is_swapped_in_the_assembled_tree_is_not_published(
    build: Build, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    make = assemble.assemble

    def late(*words: Any) -> store.Artifact:
        found = make(*words)
        swap(found.path / name, link=False)
        return found

    monkeypatch.setattr(assemble, "assemble", late)
    assert "the file changed while it was published" in offline(build, code=3)


def test_a_recipe_that_is_edited_meanwhile_is_not_the_one_that_was_verified(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    gather = evidence.gather

    def late(*words: Any, own_prompts: bool) -> Publishable:
        found = gather(*words, own_prompts=own_prompts)
        path = build.home / "small.toml"
        path.write_text(path.read_text().replace('checks = ["structure"]', 'checks = ["tokenizer"]'))
        return found

    monkeypatch.setattr(evidence, "gather", late)
    assert "the file changed while it was published" in offline(build, code=3)


def test_what_is_sent_is_what_was_hashed(hub: LocalHub, publish: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client hashes a file when it is added, and reads it again to send it."""
    publish()
    expected, upload = publish.expected, Hub.upload

    def late(*words: Any) -> None:
        for name in ("README.md", "onnx/model_q4.onnx"):
            (publish.build.home / "small" / "repo" / name).write_bytes(b"swapped")
        upload(*words)

    monkeypatch.setattr(Hub, "upload", late)
    publish("--push")
    assert hub.tree(publish.repository) == expected
