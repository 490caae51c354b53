"""ctranslate2: its Generator, with the model converted by its own converter."""

from __future__ import annotations

from benchmarks.engine import FileSizes, Site
from benchmarks.prepared import prepared

SESSION = "benchmarks.engines.ctranslate2.session"
CACHE_WIDTH = 4


def names(site: Site) -> tuple[str, ...]:  # noqa: ARG001  # every engine's `names` has one signature
    """Compute types, each with the weights stored in it."""
    return ("float32", "int8")


def requires(name: str) -> tuple[str, ...]:  # noqa: ARG001  # every engine's `requires` has one signature
    """The engine itself and what its files are written with."""
    return ("ctranslate2",)


def place(site: Site, name: str) -> FileSizes:
    """The converted model's directory; its size is that of the weights' file."""
    path = prepared(site, "ctranslate2", name)
    size = (path / "model.bin").stat().st_size
    return FileSizes(path, size, size)
