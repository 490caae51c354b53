"""stock: Optimum's export as a user makes it, and the variants of the stock Transformers.js recipe made from it."""

from __future__ import annotations

from benchmarks.engine import FileSizes, Site
from benchmarks.prepared import prepared

SESSION = "benchmarks.onnx_session"
CACHE_WIDTH = 4


def names(site: Site) -> tuple[str, ...]:  # noqa: ARG001  # every engine's `names` has one signature
    """The export and the recipe's fp16, q8 and q4."""
    return ("fp32", "fp16", "q8", "q4")


def requires(name: str) -> tuple[str, ...]:  # noqa: ARG001  # every engine's `requires` has one signature
    """Nothing beyond the project's own dependencies."""
    return ()


def place(site: Site, name: str) -> FileSizes:
    """The exported or quantized graph."""
    path = prepared(site, "stock", name) / "model.onnx"
    return FileSizes(path, path.stat().st_size, path.stat().st_size)
