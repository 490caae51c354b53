"""Read what verify's report says of WebGPU: which variants were judged right there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PLACE = "browser, webgpu"  # runtime and level; a second one, with subgroups hidden, begins with the same words


def judged(report: Mapping[str, Any]) -> set[str]:
    """Return the variants that were asked on WebGPU and passed all that they were asked."""
    own = [r for r in report["results"] if f"{r.get('runtime')}, {r.get('level')}".startswith(PLACE)]
    return {r["variant"] for r in own} - {r["variant"] for r in own if not r["passed"]}
