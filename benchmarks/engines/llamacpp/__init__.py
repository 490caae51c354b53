"""llamacpp: llama.cpp through llama-cpp-python's bindings of its C interface."""

from __future__ import annotations

from benchmarks.engine import FileSizes, Site
from benchmarks.prepared import prepared

SESSION = "benchmarks.engines.llamacpp.session"
CACHE_WIDTH = 2  # its default cache is float16


def names(site: Site) -> tuple[str, ...]:  # noqa: ARG001  # every engine's `names` has one signature
    """File types, in llama.cpp's names."""
    return ("f32", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0")


def requires(name: str) -> tuple[str, ...]:  # noqa: ARG001  # every engine's `requires` has one signature
    """The engine itself and what its files are written with."""
    return ("llama-cpp-python", "gguf")


def place(site: Site, name: str) -> FileSizes:
    """The GGUF file."""
    path = prepared(site, "llamacpp", name) / "model.gguf"
    return FileSizes(path, path.stat().st_size, path.stat().st_size)
