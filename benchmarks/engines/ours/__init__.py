"""ours: every variant that this project has built, in plain ONNX Runtime; a graph in place with one buffer."""

from __future__ import annotations

from benchmarks.engine import FileSizes, Site
from pipeline.artifact.store import open_artifact
from pipeline.command import invocation
from pipeline.variants import FILES, base, in_place, model_file, read_files

SESSION = "benchmarks.onnx_session"
CACHE_WIDTH = 4


def variants(site: Site) -> tuple[str, ...]:
    """The variants that are there, fp32 first."""
    return tuple(name for name in FILES if (site.home / name / "manifest.json").is_file())


def names(site: Site) -> tuple[str, ...]:
    """The variants that are there, fp32 first, each before its graph in place, if it has one."""
    every = [graph for name in variants(site) for graph in (name, in_place(name))]
    return tuple(name for name in every if (site.home / base(name) / model_file(name)).is_file())


def requires(name: str) -> tuple[str, ...]:  # noqa: ARG001  # every engine's `requires` has one signature
    """Nothing beyond the project's own dependencies."""
    return ()


def place(site: Site, name: str) -> FileSizes:
    """The variant's graph; ArtifactError when it is not what its manifest says."""
    variant = base(name)
    made_by = invocation("convert" if variant == "fp32" else "quantize", site.recipe, site.home.parent)
    artifact = open_artifact(site.home / variant, made_by=made_by)
    sizes = {entry.path: entry.size for entry in artifact.manifest.files}
    size = sum(sizes[path] for path in read_files(name, sizes))
    return FileSizes(artifact.path / model_file(name), size, size)
