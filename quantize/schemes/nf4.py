"""NF4 weights for linear layers (MatMulBnb4); embedding and lm_head share a blockwise table as in `rtn`."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import onnx_ir as ir
from tqdm import tqdm

from quantize import blockwise
from quantize.blockwise import Choice
from quantize.numerics.blocks import BITS, SIZES, Form
from quantize.numerics.normal_float import QUANT_TYPE, quantize
from quantize.rewrite.lookup import place
from quantize.rewrite.products import DOMAIN_VERSION, Operation, initializer, not_finite, replace_node
from quantize.rewrite.weights import DOMAIN, Weight, find_weights
from quantize.scheme import Context, check_choice

CALIBRATED = False


@dataclass(frozen=True)
class Options:
    """`embedding_bits` 0 keeps the embedding and lm_head in float; `accuracy_level` is that of lm_head."""

    block: int = 64
    accuracy_level: int = 4
    embedding_bits: int = 8
    embedding_block: int = 32

    def check(self, where: str) -> None:
        """Raise RecipeError for a value that the runtime has no kernel for."""
        check_choice("block", self.block, SIZES, where)
        check_choice("accuracy_level", self.accuracy_level, range(5), where)
        check_choice("embedding_bits", self.embedding_bits, (0, *BITS), where)
        check_choice("embedding_block", self.embedding_block, SIZES, where)


def apply(model: ir.Model, options: Options, context: Context) -> None:
    """Quantize every linear layer to NF4, and the vocabulary's tables unless `embedding_bits` is 0."""
    weights = find_weights(model, context.dims)
    for weight in tqdm(weights.body, desc="nf4", unit="tensor", file=sys.stderr, leave=False, disable=None):
        _quantize_weight(model, weight, options.block)
    if options.embedding_bits:
        form = Form(options.embedding_bits, options.embedding_block, symmetric=True)
        for weight in weights.tables:
            choice = Choice("rtn", form, options.accuracy_level)
            place(model, weight, blockwise.solve(weight, choice, context), choice.level)


def _quantize_weight(model: ir.Model, weight: Weight, block: int) -> None:
    try:
        values = quantize(weight.matrix(), block=block)
    except ValueError as error:
        raise not_finite(weight, error) from error
    model.opset_imports[DOMAIN] = DOMAIN_VERSION
    codes = initializer(model, f"{weight.stem}.nf4", values.packed)
    peaks = initializer(model, f"{weight.stem}.absmax", values.peaks)
    n, k = weight.shape
    attributes = {"K": k, "N": n, "block_size": block, "quant_type": QUANT_TYPE}
    for node in weight.products:  # MatMulBnb4 has no bias input: the Add stays
        replace_node(node, Operation("MatMulBnb4", [node.inputs[0], codes, peaks], attributes))
