"""pytorch: transformers' own model in float32 with its default attention (sdpa), eager and compiled."""

from __future__ import annotations

from benchmarks.engine import FileSizes, Site

SESSION = "benchmarks.engines.pytorch.session"
CACHE_WIDTH = 4


def names(site: Site) -> tuple[str, ...]:  # noqa: ARG001  # every engine's `names` has one signature
    """Eager, and through torch.compile, which needs a C++ compiler and compiles while the engines warm up."""
    return ("eager", "compiled")


def requires(name: str) -> tuple[str, ...]:  # noqa: ARG001  # every engine's `requires` has one signature
    """Nothing beyond the project's own dependencies."""
    return ()


def place(site: Site, name: str) -> FileSizes:  # noqa: ARG001  # every engine's `place` has one signature
    """The checkpoint. Its file may hold 16-bit numbers; in memory, and so read for every token, are 32-bit ones."""
    size = sum(path.stat().st_size for path in site.source.glob("*.safetensors"))
    return FileSizes(site.source, size, 4 * site.dims.parameters)
