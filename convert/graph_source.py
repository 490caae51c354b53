"""A checked checkpoint as an architecture's writers of graphs see it: its tensors, or the graph that Optimum traces."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir

from model.architecture import Config, Configuration
from model.contract import Dimensions


@dataclass(frozen=True)
class CheckedSource:
    """A directory that `convert.source` has checked; `scratch` holds what is traced until the graph is saved."""

    directory: Path
    names: Configuration
    config: Config
    dims: Dimensions
    allow_pickle: bool
    scratch: Path

    def weights(self) -> Mapping[str, ir.TensorProtocol]:
        """The tensors, each read when it is written; InputError for one that is not finite."""
        from convert import weights  # needs torch, as what follows

        return weights.read(self.directory, self.names, self.dims, allow_pickle=self.allow_pickle)

    def trace(self, prepare: Callable[[Any], None], exporter: Callable[[Any], Any]) -> ir.Model:
        """The graph that Optimum traces of transformers' model, cleaned; InputError when it cannot."""
        from convert import export

        model, path = export.load(self.directory, allow_pickle=self.allow_pickle), self.scratch / "traced.onnx"
        prepare(model)
        export.export(model, exporter, path, context=self.dims.context)
        return export.clean(path)
