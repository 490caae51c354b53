"""A checkpoint that lies nowhere: random tensors of a config, for an architecture's writer of graphs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from model.architecture import Configuration
from model.contract import Dimensions


@dataclass(frozen=True)
class RandomSource:
    own: Configuration
    config: dict[str, Any]

    @property
    def dims(self) -> Dimensions:
        return self.own.dimensions(self.config, "config.json")

    def weights(self) -> dict[str, ir.TensorProtocol]:
        generator = np.random.default_rng(0)
        return {
            name: ir.tensor(generator.standard_normal(shape).astype(np.float32), name=name)
            for name, shape in self.own.tensors(self.config).items()
        }
