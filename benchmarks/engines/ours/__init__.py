"""ours: every variant that this project has built, in plain ONNX Runtime."""

from __future__ import annotations

from benchmarks.engine import Place, Site
from pipeline.artifact.store import open_artifact
from pipeline.command import invocation
from pipeline.variants import FILES, model_file

SESSION = "benchmarks.onnx_session"
CACHE_WIDTH = 4


def names(site: Site) -> tuple[str, ...]:
    """The variants that are there, fp32 first."""
    return tuple(name for name in FILES if (site.home / name / "manifest.json").is_file())


def requires(name: str) -> tuple[str, ...]:  # noqa: ARG001  # every engine's `requires` has one signature
    """Nothing beyond the project's own dependencies."""
    return ()


def place(site: Site, name: str) -> Place:
    """The variant's graph; ArtifactError when it is not what its manifest says."""
    made_by = invocation("convert" if name == "fp32" else "quantize", site.recipe, site.home.parent)
    artifact = open_artifact(site.home / name, made_by=made_by)
    path = artifact.path / model_file(name)
    return Place(path, path.stat().st_size, path.stat().st_size)
