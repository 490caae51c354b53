"""Say what the benchmarks' tests share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def build(build: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the build directory: a benchmark keeps its results there, and the model card shows them."""
    return Path(shutil.copytree(build, tmp_path_factory.mktemp("measured"), dirs_exist_ok=True))
