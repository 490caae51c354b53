"""Blockwise 4- or 8-bit weights: MatMulNBits for linear layers, one shared table for embedding and lm_head."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import onnx_ir as ir
from tqdm import tqdm

from artifact.signature import Dimensions
from quantize.rewrite import Grid, quantize_weight
from quantize.scheme import BLOCKS, check_choice
from quantize.weights import find_weights


@dataclass(frozen=True)
class Options:
    """`embedding_bits` 0 keeps the embedding and lm_head in float.

    `accuracy_level` 4 rounds activations to int8, per row and block. Lower levels keep them float, but onnxruntime
    1.31.1 has no float kernel for 8-bit weights on x64: it widens the whole matrix at every call. With level 4 a row's
    result depends on no other row, to the last bit, up to block 32 at 4 bits and 64 at 8 bits (decision 0004).
    """

    bits: int
    block: int = 32
    symmetric: bool = True
    accuracy_level: int = 4
    embedding_bits: int = 8
    embedding_block: int = 32
    embedding_symmetric: bool = True
    embedding_accuracy_level: int | None = None  # lm_head's; None is that of the body

    def check(self, where: str) -> None:
        """Raise RecipeError for a value that the runtime has no kernel for."""
        check_choice("bits", self.bits, (4, 8), where)
        check_choice("block", self.block, BLOCKS, where)
        check_choice("accuracy_level", self.accuracy_level, range(5), where)
        if self.embedding_accuracy_level is not None:
            check_choice("embedding_accuracy_level", self.embedding_accuracy_level, range(5), where)
        check_choice("embedding_bits", self.embedding_bits, (0, 4, 8), where)
        check_choice("embedding_block", self.embedding_block, BLOCKS, where)


def apply(model: ir.Model, options: Options, dims: Dimensions) -> None:
    """Quantize every linear layer, and the vocabulary's tables unless `embedding_bits` is 0."""
    body, tables = find_weights(model, dims)
    inner = Grid(options.bits, options.block, options.symmetric, options.accuracy_level)
    level = options.accuracy_level if options.embedding_accuracy_level is None else options.embedding_accuracy_level
    outer = Grid(options.embedding_bits, options.embedding_block, options.embedding_symmetric, level)
    work = [(weight, inner) for weight in body]
    if options.embedding_bits:
        work += [(weight, outer) for weight in tables]
    for weight, grid in tqdm(work, desc="blockwise", unit="tensor", file=sys.stderr, leave=False, disable=None):
        quantize_weight(model, weight, grid)
