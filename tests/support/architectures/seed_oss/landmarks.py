"""Say what Seed-OSS's parts are called."""

from __future__ import annotations

from collections.abc import Mapping

from model.architectures.llama.landmarks import NORM_EPSILON, landmarks
from model.landmarks import Kind

__all__ = ["MODULES", "NORM_EPSILON", "landmarks"]
MODULES: Mapping[str, Kind] = {"SeedOssRotaryEmbedding": Kind.OTHER}
