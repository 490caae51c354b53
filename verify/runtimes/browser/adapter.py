"""The WebGPU adapter that the browser offers its pages: a graphics processor, or Chromium's own in software."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnx

from verify.candidate.unrounded import has_float16

HALF = "shader-f16"  # the feature without which an adapter has no arithmetic in float16


@dataclass(frozen=True)
class Adapter:
    """State what a page is told about its adapter. `subgroups`: fewest and most lanes of a subgroup, None without."""

    name: str
    software: bool
    subgroups: tuple[int, int] | None
    half: bool

    @property
    def text(self) -> str:
        """In words, for the report."""
        lanes = "no subgroups"
        if self.subgroups is not None:
            least, most = self.subgroups
            lanes = f"subgroups of {least}" if least == most else f"subgroups of {least} to {most}"
        kind = " (software)" if self.software else ""
        return f"{self.name}{kind}, {lanes}, {'with' if self.half else 'no'} {HALF}"


def read(found: Mapping[str, Any] | None) -> Adapter | None:
    """Return what webgpu.mjs says of the adapter; None for no adapter."""
    if found is None:
        return None
    name = " ".join(filter(None, (found["vendor"], found["architecture"], found["description"])))
    least, most = found["subgroupMinSize"], found["subgroupMaxSize"]
    subgroups = (least, most) if "subgroups" in found["features"] else None
    return Adapter(name or "unnamed", bool(found["software"]), subgroups, HALF in found["features"])


def lacks(adapter: Adapter, model: onnx.ModelProto) -> str | None:
    """Say why the adapter cannot run a graph: it has no float16, and the graph has."""
    if adapter.half or not has_float16(model):
        return None
    return f"no {HALF}: {adapter.name} has no arithmetic in float16, which this graph needs"
