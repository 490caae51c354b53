"""Optimum's own export of a checkpoint, made in Optimum's environment as the benchmarks make it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.engines.stock import prepare
from verify.runtimes.optimum import environment

missing = pytest.mark.skipif(
    not environment.present() and not os.environ.get("PIPELINE_CI"), reason=f"Optimum is missing: {environment.COMMAND}"
)


def export(source: Path, home: Path) -> Path:
    """Write `model.onnx` into a new directory; its path."""
    home.mkdir(parents=True, exist_ok=True)
    prepare.make("fp32", source, Path(), home)
    return home / "model.onnx"
