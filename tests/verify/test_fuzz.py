"""A slice of `make fuzz`: some hundred mutated files of every kind are read or refused, and nothing else happens."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import fuzz, fuzz_checkpoints
from tests.fuzz_targets import readers
from tests.support.tiny_checkpoints import write_checkpoint

FILES = 400


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, fuzz.Target]]:
    with fuzz.prepared(tmp_path_factory.mktemp("fuzz"), FILES) as made:
        yield {target.name: target for target in made}


@pytest.mark.parametrize("name", readers())
def test_mutated_files_are_read_or_refused(name: str, targets: dict[str, fuzz.Target], tmp_path: Path) -> None:
    assert fuzz.with_hypothesis(targets[name], tmp_path, seed=7) >= targets[name].files // 2


def test_a_finding_is_a_finding(tmp_path: Path) -> None:
    def careless(content: bytes, place: Path) -> None:  # noqa: ARG001
        content.decode()

    with pytest.raises(UnicodeDecodeError):
        fuzz.with_hypothesis(fuzz.Target("careless", (b"text", b"\xc3\xa9"), careless, 200), tmp_path, seed=0)


def test_a_mutant_of_a_checkpoint_is_known_by_its_number(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", shard="40KB")
    contents = []
    for name in ("one", "two"):
        copy = Path(shutil.copytree(base, tmp_path / name))
        changed = fuzz_checkpoints.mutate(copy, random.Random("5-0"))  # noqa: S311  # a mutant that can be made again
        contents.append((changed, {path.name: path.read_bytes() for path in copy.iterdir()}))
    assert contents[0] == contents[1]
    assert contents[0][1] != {path.name: path.read_bytes() for path in base.iterdir()}


def test_a_process_that_dies_on_a_mutant_is_a_finding(tmp_path: Path) -> None:
    with fuzz_checkpoints.Reader([tmp_path / "missing"], tmp_path / "scratch", 0) as reader:
        kind, words = reader.read(7)
    assert (kind, words.partition(" (")[0]) == ("FOUND", "mutant 7: its process died")


def test_findings_of_one_kind_are_said_once() -> None:
    findings = [f"mutant {n} (vocab.json): verify fails: token '{n}' is {n}, not there" for n in (4, 17)]
    findings.append("mutant 9: its process died (exit code -9)")
    assert list(fuzz_checkpoints.kinds(findings)) == [f"2 x {findings[0]}", f"1 x {findings[2]}"]
