"""A checked checkpoint as an architecture's writers of graphs see it: its config, its sizes, its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from model.architecture import Architecture, Config
from model.contract import Dimensions


@dataclass(frozen=True)
class CheckedSource:
    """A directory that `convert.source` has checked."""

    directory: Path
    own: Architecture
    config: Config
    dims: Dimensions
    allow_pickle: bool

    def weights(self) -> Mapping[str, ir.TensorProtocol]:
        """The tensors, each read when it is written; InputError for one that is not finite."""
        from convert import weights  # needs torch

        tied = self.dims.tied
        return weights.read(self.directory, self.own, self.config, tied=tied, allow_pickle=self.allow_pickle)
