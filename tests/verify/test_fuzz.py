"""A slice of `make fuzz`: some hundred mutated files of every kind are read or refused, and nothing else happens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import fuzz
from tests.fuzz_targets import readers

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
