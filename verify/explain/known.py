"""One call of the reference, and all that is known of its values: by name, and spelt out."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from model import architecture
from model.architecture import Architecture
from model.landmarks import Landmarks
from model.truth import Call, Truth
from verify.check import Array, Case


@dataclass(frozen=True)
class KnownCall:
    """A call, and the architecture that says what its values are."""

    call: Call
    own: Architecture

    @classmethod
    def of(cls, case: Case, parameters: Mapping[str, Array]) -> KnownCall:
        """Return a case of `truth.calls` with the reference's parameters."""
        call = Call(case.arrays, case.facts["config"], case.facts["keep"], parameters)
        return cls(call, architecture.find(case.facts["architecture"]))

    @functools.cached_property
    def at(self) -> Landmarks:
        """Return what the model's parts are called."""
        return self.own.landmarks.landmarks(self.call.config)

    @functools.cached_property
    def named(self) -> Mapping[str, Truth]:
        """Every value that has a name."""
        return self.own.reference_values.named(self.call)

    def spelt_out(self) -> Iterator[tuple[str, Truth]]:
        """More values of every layer, as graphs with other names spell them out."""
        for layer in range(len(self.at.layers)):
            yield from self.own.reference_values.spelt_out(self.call, layer)

    def row(self, row: int) -> KnownCall:
        """Return the call of one row alone."""
        arrays = {name: array[row : row + 1] for name, array in self.call.arrays.items()}
        return KnownCall(replace(self.call, arrays=arrays), self.own)


def load_parameters(directory: Path) -> dict[str, Array]:
    """Map what `verify.explain.truth.save_parameters` wrote: float32, by the parameters' names."""
    return {path.stem: np.load(path, mmap_mode="r", allow_pickle=False) for path in sorted(directory.glob("*.npy"))}
