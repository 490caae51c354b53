"""The contract of the converted model: dimensions, graph inputs and outputs, versions, file names.

Source of the names and limits: the loaders (Transformers.js 4.3.2, Optimum 2.1.0); see docs/decisions/0002.
"""

from __future__ import annotations

from dataclasses import dataclass

OPSET = 18
IR_VERSION = 8
MAX_OPSET = 21  # newest that the older runtimes in use load
MAX_IR_VERSION = 10

BATCH = "batch_size"  # Transformers.js builds the empty cache from this very name
SEQUENCE = "sequence_length"
PAST = "past_sequence_length"
TOTAL = "past_sequence_length + sequence_length"
CACHE_IN, CACHE_OUT = "past_key_values.", "present."  # what names of the cache's ports begin with
IN_PLACE = {"cache": "in place"}  # what a file's metadata says if past and present may be bound to one buffer
LOGITS_TO_KEEP = "num_logits_to_keep"  # Transformers.js knows this name too, should it ever see it


@dataclass(frozen=True)
class Dimensions:
    """Sizes of a decoder-only language model; `parameters` counts a tied embedding once.

    `kv_heads` heads of keys and values, of width `head_dim`, are in the cache; each serves as many of the `heads`.
    """

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    context: int
    vocabulary: int
    parameters: int
    tied: bool

    @property
    def cached(self) -> int:
        """Numbers that one token adds to the cache, keys and values of all layers."""
        return 2 * self.layers * self.kv_heads * self.head_dim


@dataclass(frozen=True)
class Port:
    """One graph input or output: name, element type, and axes as numbers or symbols."""

    name: str
    dtype: str
    axes: tuple[int | str, ...]


def inputs(dims: Dimensions) -> tuple[Port, ...]:
    """The graph's required inputs; the cache is float32 in every variant."""
    return (
        Port("input_ids", "int64", (BATCH, SEQUENCE)),
        Port("attention_mask", "int64", (BATCH, TOTAL)),
        Port("position_ids", "int64", (BATCH, SEQUENCE)),
        *_cache(CACHE_IN, dims, PAST),
    )


def optional_inputs() -> tuple[Port, ...]:
    """Inputs with a default, which loaders do not see: how many of the last positions get logits (0: all)."""
    return (Port(LOGITS_TO_KEEP, "int64", ()),)


def outputs(dims: Dimensions) -> tuple[Port, ...]:
    """The graph's outputs: logits over the vocabulary, and the cache grown by this call."""
    return (Port("logits", "float32", (BATCH, SEQUENCE, dims.vocabulary)), *_cache(CACHE_OUT, dims, TOTAL))


def _cache(prefix: str, dims: Dimensions, length: str) -> tuple[Port, ...]:
    axes = (BATCH, dims.kv_heads, length, dims.head_dim)
    return tuple(
        Port(f"{prefix}{layer}.{part}", "float32", axes) for layer in range(dims.layers) for part in ("key", "value")
    )
