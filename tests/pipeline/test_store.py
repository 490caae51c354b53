from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.artifact.manifest import FILE_NAME
from pipeline.artifact.store import intact, seal, staging, up_to_date
from pipeline.errors import ArtifactError
from tests.conftest import ROOT
from tests.support import small_artifacts
from tests.support.small_artifacts import MANIFEST, NEW, OLD, listing, make, read, refusal

target = small_artifacts.target


def test_sealed_artifact_is_what_a_reader_opens(target: Path) -> None:
    sealed = make(target)
    opened = read(target)
    assert opened.digest == sealed.digest
    assert opened.path == sealed.path == target
    assert [entry.path for entry in opened.manifest.files] == sorted(OLD)
    assert [entry.size for entry in opened.manifest.files] == [2, 3]
    assert opened.manifest.same_making(MANIFEST)
    assert {name: (target / name).read_text() for name in OLD} == OLD
    assert listing(target.parent) == ["tiny"]


def test_same_content_has_the_same_digest_anywhere(tmp_path: Path) -> None:
    first = make(tmp_path / "a" / "tiny", OLD)
    second = make(tmp_path / "b" / "other", dict(reversed(OLD.items())))
    assert first.digest == second.digest
    assert (first.path / FILE_NAME).read_bytes() == (second.path / FILE_NAME).read_bytes()
    assert make(tmp_path / "a" / "tiny", NEW).digest != first.digest


def test_manifest_names_no_place_and_no_time(target: Path) -> None:
    make(target)
    content = (target / FILE_NAME).read_text()
    assert str(target.parent) not in content
    assert str(os.getpid()) not in content


def test_manifest_is_written_after_every_file_is_on_disk(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    sync = os.fsync

    def fsync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced.append(path.name)
        manifest_exists = any(FILE_NAME in names for _, _, names in os.walk(target.parent))
        assert manifest_exists == (FILE_NAME in synced)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    make(target)
    assert synced[:3] == ["config.json", "model.onnx", FILE_NAME]
    assert set(synced[3:-1]) == {"tree", "onnx", "deep"}
    assert synced[-1] == "build"


def test_new_artifact_takes_the_place_of_the_previous(target: Path) -> None:
    make(target, OLD)
    sealed = make(target, NEW)
    assert read(target).digest == sealed.digest
    assert listing(target.parent) == ["tiny"]


def change_byte(target: Path) -> None:
    (target / "onnx/deep/model.onnx").write_text("olb")


def change_size(target: Path) -> None:
    (target / "onnx/deep/model.onnx").write_text("older")


def remove_file(target: Path) -> None:
    (target / "config.json").unlink()


def add_file(target: Path) -> None:
    (target / "onnx" / "more.bin").write_bytes(b"")


def add_hidden_file(target: Path) -> None:
    (target / ".hidden").write_bytes(b"")


def add_link(target: Path) -> None:
    (target / "link").symlink_to("config.json")


def replace_by_link(target: Path) -> None:
    (target / "config.json").rename(target.parent / "outside")
    (target / "config.json").symlink_to(target.parent / "outside")


def link_directory(target: Path) -> None:
    (target / "onnx").rename(target.parent / "outside")
    (target / "onnx").symlink_to(target.parent / "outside")


def add_pipe(target: Path) -> None:
    os.mkfifo(target / "pipe")


def link_manifest(target: Path) -> None:
    (target / FILE_NAME).rename(target.parent / "outside")
    (target / FILE_NAME).symlink_to(target.parent / "outside")


def remove_manifest(target: Path) -> None:
    (target / FILE_NAME).unlink()


def remove_all(target: Path) -> None:
    shutil.rmtree(target)


def put_file(target: Path) -> None:
    shutil.rmtree(target)
    target.write_text("not a directory")


DAMAGE = [
    (change_byte, "file onnx/deep/model.onnx differs from its digest in the manifest"),
    (change_size, "file onnx/deep/model.onnx differs from its digest in the manifest"),
    (remove_file, "file config.json is missing"),
    (add_file, "file onnx/more.bin is not in the manifest"),
    (add_hidden_file, "file .hidden is not in the manifest"),
    (add_link, "link is a link or a special file"),
    (replace_by_link, "config.json is a link or a special file"),
    (link_directory, "onnx is a link or a special file"),
    (add_pipe, "pipe is a link or a special file"),
    (link_manifest, "manifest.json is a link or a special file"),
    (remove_manifest, "artifact has no manifest, so it was never finished"),
    (remove_all, "artifact not found"),
    (put_file, "artifact not found"),
]


@pytest.mark.parametrize(("damage", "what"), DAMAGE, ids=[damage.__name__ for damage, _ in DAMAGE])
def test_damaged_artifact_is_refused_and_made_again(target: Path, damage: Callable[[Path], None], what: str) -> None:
    sealed = make(target)
    damage(target)
    error = refusal(target)
    assert (error.what, error.where) == (what, str(target))
    assert intact(target) is None
    assert up_to_date(target, MANIFEST) is None
    if damage is not put_file:
        assert make(target).digest == sealed.digest
        assert read(target).digest == sealed.digest


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema": 1}', b"\xff", b"[" * 100_000])
def test_broken_manifest_is_refused_and_made_again(target: Path, content: bytes) -> None:
    make(target)
    (target / FILE_NAME).write_bytes(content)
    with pytest.raises(ArtifactError) as caught:
        read(target)
    assert caught.value.where == str(target / FILE_NAME)
    assert up_to_date(target, MANIFEST) is None
    make(target)
    assert up_to_date(target, MANIFEST) is not None


def test_every_flipped_bit_of_the_manifest_is_refused_or_seen(target: Path) -> None:
    """One that stays readable changes the digest, by which children and reports know the artifact."""
    sealed = make(target)
    content = (target / FILE_NAME).read_bytes()
    for at in range(len(content) - 1):  # the last byte is the newline
        changed = bytearray(content)
        changed[at] ^= 1
        (target / FILE_NAME).write_bytes(changed)
        opened = intact(target)
        assert opened is None or opened.digest != sealed.digest


def test_up_to_date_wants_the_same_making(target: Path) -> None:
    assert up_to_date(target, MANIFEST) is None
    sealed = make(target)
    known = up_to_date(target, MANIFEST)
    assert known is not None
    assert known.digest == sealed.digest
    assert up_to_date(target, replace(MANIFEST, code="changed")) is None


def test_staging_is_empty_and_beside_the_target(target: Path) -> None:
    with staging(target) as staged, staging(target) as other:
        assert listing(staged) == []
        assert staged.parent.parent == other.parent.parent == target.parent
        assert staged.parent.name.startswith(".staging-tiny-")
        assert staged.parent != other.parent, "two runs at a time, here or on another machine"


@pytest.mark.parametrize("name", ["link", "file"])
def test_staging_refuses_to_replace_what_is_no_directory(target: Path, tmp_path: Path, name: str) -> None:
    target.parent.mkdir()
    (tmp_path / "precious").mkdir()
    if name == "link":
        target.symlink_to(tmp_path / "precious")
    else:
        target.write_text("precious")
    with pytest.raises(ArtifactError) as caught, staging(target):
        pytest.fail("staging began")
    assert caught.value.what == "a link or a file is where the artifact belongs"
    assert caught.value.where == str(target)
    assert caught.value.hint == "move it away, or name another build directory with --build"
    assert listing(target.parent) == ["tiny"]


@pytest.mark.parametrize("link", ["file", "directory"])
def test_seal_refuses_a_link(target: Path, tmp_path: Path, link: str) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").write_text("outside")
    with pytest.raises(ArtifactError) as caught, staging(target) as staged:
        (staged / "name").symlink_to(tmp_path / link)
        seal(staged, target, MANIFEST)
    assert (caught.value.what, caught.value.hint) == ("name is a link or a special file", "remove the link")
    assert listing(target.parent) == []


def test_seal_refuses_a_file_named_like_the_manifest(target: Path) -> None:
    with pytest.raises(ArtifactError) as caught:
        make(target, {**OLD, FILE_NAME: "{}"})
    assert caught.value.what == "file manifest.json is in the way"
    assert caught.value.hint == "move it away: the manifest is written there"
    assert listing(target.parent) == []


def test_seal_keeps_a_manifest_of_another_folder(target: Path) -> None:
    assert make(target, {"deep/manifest.json": "{}"}).digest == read(target).digest


def test_seal_refuses_facts_that_json_cannot_say(target: Path) -> None:
    sealed = make(target)
    with pytest.raises(ValueError, match="JSON compliant"):
        make(target, NEW, replace(MANIFEST, facts={"loss": float("nan")}))
    assert read(target).digest == sealed.digest
    assert listing(target.parent) == ["tiny"]


def test_importing_the_package_loads_the_standard_library_only() -> None:
    paths = [path.relative_to(ROOT).with_suffix("") for path in (ROOT / "pipeline").rglob("*.py")]
    modules = [".".join(path.parts).removesuffix(".__init__") for path in paths]
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import {', '.join(modules)}; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-S", "-I", "-c", code], check=True, capture_output=True, text=True).stdout
    assert {name.partition(".")[0] for name in found.split()} - sys.stdlib_module_names == {"pipeline", "__main__"}
