"""genai: onnxruntime-genai's own loop, on the graph that its own builder makes of the checkpoint."""

from __future__ import annotations

from benchmarks.engine import FileSizes, Site
from benchmarks.prepared import prepared

SESSION = "benchmarks.engines.genai.session"
CACHE_WIDTH = 4


def names(site: Site) -> tuple[str, ...]:  # noqa: ARG001  # every engine's `names` has one signature
    """The builder's precisions for processors."""
    return ("fp32", "int4")


def requires(name: str) -> tuple[str, ...]:  # noqa: ARG001  # every engine's `requires` has one signature
    """The engine, which brings its builder."""
    return ("onnxruntime-genai",)


def place(site: Site, name: str) -> FileSizes:
    """The directory with the graph and its data, of which a token reads all."""
    path = prepared(site, "genai", name)
    size = sum(file.stat().st_size for file in path.glob("model.onnx*"))
    return FileSizes(path, size, size)
