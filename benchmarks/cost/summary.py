"""The figures that the pipeline's cost is judged by, read back from where `python -m benchmarks.cost` left them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.canonical import read_json

FILE_NAME = "cost.json"


def ratios(directory: Path) -> Mapping[str, float]:
    """Convert's wall and peak over optimum-cli's, verify's wall over the reference pass's; empty if never measured."""
    path = directory / FILE_NAME
    if not path.is_file():
        return {}
    return {name: float(value) for name, value in read_json(path)["ratios"].items()}
