"""State what an architecture is: a folder of model/architectures whose modules keep the contracts below.

The folder's name is the recipe's `architecture`; its `__init__.py` states MODEL_TYPES, the `model_type`s of the
checkpoints that it stands for. Nothing outside the folder knows a name, a shape or a quirk of the architecture. Its
parts are modules, imported when first asked for; none needs torch to be imported. Parts marked * may be missing. The
environment variable PIPELINE_ARCHITECTURES names further places of such folders, as PATH does for programs.

| part | contract | what it knows |
|---|---|---|
| `config` | Configuration | which configurations are accepted, the sizes and tensors that follow from one |
| `standard` | Writer | the graph of ONNX's own operators |
| `fused` * | FusedWriter | the graph of onnxruntime's operators |
| `landmarks` | Naming | what a model's parts are called, by the role that they play |
| `reference_values` | ReferenceValues | the true value of everything inside a call, by name |
| `gguf` * | Gguf | the model as llama.cpp reads it |
| `tiny` * | Tiny | a configuration of any size |

The judge reads facts (`config`, `landmarks`, `reference_values`), never a writer of graphs: import rules see to it.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from model.contract import Dimensions
from pipeline import plugins
from pipeline.errors import InputError
from pipeline.plugins import ARCHITECTURES

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir as ir

    from model.landmarks import Kind, Landmarks
    from model.truth import Call, Truth

Config = Mapping[str, Any]  # a checkpoint's config.json


class Configuration(Protocol):
    """Module `config`: which configurations are accepted, and what follows from one."""

    HEADS: str  # the key that states the number of heads
    EPSILON: str  # the key that states what norms add to a variance
    ALIASES: Mapping[str, str]  # other spellings that transformers reads too, each with the key that it stands for

    def complete(self, config: Config) -> dict[str, Any]:
        """Return the config with the sizes that it leaves to transformers' defaults, which Transformers.js lacks."""

    def dimensions(self, config: Config, where: object) -> Dimensions:
        """Return a config's sizes; InputError names the key for a value that no graph is written for."""

    def tensors(self, config: Config) -> dict[str, tuple[int, ...]]:
        """Return name and shape of every tensor that a checkpoint of this config stores, each once."""

    def canonical_name(self, name: str, *, tied: bool) -> str | None:
        """Return a stored tensor's name as `tensors` spells it; None for what holds nothing new."""

    def buffer_bytes(self, dims: Dimensions) -> int:
        """Return the bytes that transformers takes beyond the weights when it loads a checkpoint."""


class GraphSource(Protocol):
    """A checked checkpoint, for a writer of graphs."""

    @property
    def config(self) -> Config:
        """The checkpoint's config.json."""

    @property
    def dims(self) -> Dimensions:
        """Its sizes."""

    def weights(self) -> Mapping[str, ir.TensorProtocol]:
        """Return the tensors by the names that `Configuration.tensors` gives: float32, read when they are written."""


class Writer(Protocol):
    """Module `standard`: writes one form of the graph, with the ports of model.contract."""

    def build(self, source: GraphSource) -> ir.Model:
        """Return the model. Values that `landmarks` names bear that name, in the form that it describes."""


class FusedWriter(Writer, Protocol):
    """Module `fused`: a form that not every configuration has; what has none is written in the standard form."""

    def unsupported(self, config: Config) -> str | None:
        """Return why a configuration cannot be written in this form; None when it can."""


class Naming(Protocol):
    """Module `landmarks`: what the parts of a model are called."""

    MODULES: Mapping[str, Kind]  # what the classes of PyTorch's modules do that only this architecture has
    NORM_EPSILON: str  # the attribute of a norm's module that holds what it adds to a variance

    def landmarks(self, config: Config) -> Landmarks:
        """Return the names of a model's parts by their role."""


class ReferenceValues(Protocol):
    """Module `reference_values`: what is true inside one call of the reference."""

    def named(self, call: Call) -> dict[str, Truth]:
        """Return every tensor that has a name: `in.<module>`, `out.<module>`, and values of the graph."""

    def spelt_out(self, call: Call, layer: int) -> Iterator[tuple[str, Truth]]:
        """Yield more of one layer's tensors, as other graphs spell it out; found in a graph by their values."""

    def scale(self, config: Config, layer: int) -> float:
        """Return what the products of queries and keys are multiplied with."""


class Gguf(Protocol):
    """Module `gguf`: the model as llama.cpp reads it."""

    TOKENIZER: tuple[str, str]  # llama.cpp's names for how a text is cut: tokenizer model, pre-tokenizer

    def unsupported(self, config: Config) -> str | None:
        """Return why llama.cpp's graph does not compute a configuration; None when it does."""

    def writer(self, config: Config, weights: Mapping[str, np.ndarray], path: Path) -> Any:
        """Return a GGUFWriter that holds the model's facts and tensors, for the tokenizer to be added to."""


class Tiny(Protocol):
    """Module `tiny`: a model of any size, for what is measured on many sizes and for tests."""

    def config(self, dims: Dimensions, end: int) -> dict[str, Any]:
        """Return a config of these sizes, whose texts begin and end with the token `end`."""


@dataclass(frozen=True)
class Architecture:
    """A folder of architectures, by its name; each part is imported when first asked for."""

    name: str

    @property
    def model_types(self) -> tuple[str, ...]:
        """Values of the config key model_type that it stands for."""
        types: tuple[str, ...] = importlib.import_module(self._module()).MODEL_TYPES
        return types

    @property
    def config(self) -> Configuration:
        """Its configurations."""
        return cast("Configuration", self._part("config"))

    @property
    def standard(self) -> Writer:
        """Its graph of ONNX's own operators."""
        return cast("Writer", self._part("standard"))

    @property
    def fused(self) -> FusedWriter | None:
        """Its graph of onnxruntime's operators, if somebody has written one."""
        return cast("FusedWriter | None", self._optional("fused"))

    @property
    def landmarks(self) -> Naming:
        """Its names by their role."""
        return cast("Naming", self._part("landmarks"))

    @property
    def reference_values(self) -> ReferenceValues:
        """Its values inside a call."""
        return cast("ReferenceValues", self._part("reference_values"))

    @property
    def gguf(self) -> Gguf | None:
        """Its GGUF files, if somebody has written how they are made."""
        return cast("Gguf | None", self._optional("gguf"))

    @property
    def tiny(self) -> Tiny | None:
        """Its small configurations, if somebody has written how they are made."""
        return cast("Tiny | None", self._optional("tiny"))

    def _module(self, part: str = "") -> str:
        return ".".join(filter(None, [ARCHITECTURES.replace("/", "."), self.name, part]))

    def _part(self, part: str) -> object:
        return importlib.import_module(self._module(part))

    def _optional(self, part: str) -> object | None:
        return self._part(part) if importlib.util.find_spec(self._module(part)) else None


def find(name: str) -> Architecture:
    """Return the architecture of this name, which the recipe's reader has found to exist."""
    return Architecture(name)


def of_model_type(model_type: str, where: object) -> Architecture:
    """Return the architecture that stands for a config's model_type; InputError when there is none."""
    known = {kind: name for name in plugins.names(ARCHITECTURES) for kind in find(name).model_types}
    if model_type not in known:
        hint = f"use a checkpoint of {', '.join(sorted(known))}, or add a folder to {ARCHITECTURES}"
        raise InputError(
            f"config key model_type is {model_type!r}, which no architecture stands for", where=where, hint=hint
        )
    return find(known[model_type])


def of_config(config: Mapping[str, Any], where: object) -> tuple[Architecture, Dimensions]:
    """Return the architecture of a config as `checkpoint.read_config` reads it, and its sizes; InputError without."""
    own = of_model_type(str(config["model_type"]), where)
    return own, own.config.dimensions(config, where)


def wrong_key(where: object, key: str, value: object, wanted: str) -> InputError:
    """Return the error for a key of a config whose value no graph is written for; `wanted` says which are."""
    return InputError(f"config key {key} is {value!r}", where=where, hint=f"it must be {wanted}")
