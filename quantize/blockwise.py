"""Hold what blockwise schemes (rtn, hqq, kquant, gptq) share: their options, and the walk over a graph's weights."""

from __future__ import annotations

import fnmatch
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, TypeVar, cast

import onnx_ir as ir
from tqdm import tqdm

from pipeline import plugins
from pipeline.errors import RecipeError
from quantize.calibration import Moments
from quantize.numerics.blocks import BITS, SIZES, TIERED, Blocks, Floats, Form
from quantize.numerics.cores import by_groups
from quantize.rewrite import dequantize_at_load
from quantize.rewrite.lookup import place
from quantize.rewrite.products import not_finite
from quantize.rewrite.weights import Weight, Weights, find_weights
from quantize.scheme import FOLDER, Context, check_choice, module, needs_text

LEVELS = range(5)
AT_ONCE = 2  # weights that are solved side by side: the last of GPTQ's steps uses one core, but each takes memory
ROUNDING = 4  # the accuracy_level that rounds activations to int8
T = TypeVar("T")


@dataclass(frozen=True)
class Override:
    """Other settings for the weights whose names match the glob `tensors`; what is None stays as it was."""

    tensors: str
    scheme: str | None = None
    bits: int | None = None
    block: int | None = None
    symmetric: bool | None = None
    accuracy_level: int | None = None

    def check(self, where: str) -> None:
        """Raise RecipeError for a value that cannot be; bits 0 keep a weight in float."""
        if self.scheme is not None and self.scheme not in blockwise_schemes():
            plugins.require(FOLDER, self.scheme, where=f"{where}: scheme")
            hint = f"write one of {', '.join(blockwise_schemes())}"
            raise RecipeError(f"{self.scheme!r} has no blocks", where=f"{where}: scheme", hint=hint)
        for name, allowed in (("bits", (0, *BITS)), ("block", SIZES), ("accuracy_level", LEVELS)):
            value = getattr(self, name)
            if value is not None:
                check_choice(name, value, allowed, where)


@dataclass(frozen=True)
class BlockwiseOptions:
    """`embedding_*` hold for the vocabulary's tables. 0 bits keep a table in float: `embedding_bits`, `position_bits`.

    `embedding_frequent` above 0: only so many first rows of a vocabulary's table have `embedding_bits`, the others two
    bits fewer. BPE orders its tokens by frequency, so these are the frequent ones.

    `embedding_centred`: the head rounds its input less its mean over the calibration text, and adds to the logits what
    the mean gives: the same function, with a third less of rounding (quantize/rewrite/products.py).

    `accuracy_level` 4 rounds activations to int8, per row and block. Lower levels keep them float, but onnxruntime
    1.31.1 has such kernels on x64 for 4 bits only: at 2 and 8 it widens the whole matrix at every call. With level 4 a
    row's result depends on no other row, to the last bit, up to block 64 at 8 bits, and with AVX-512 up to block 32 at
    4 bits; else the order of its sums does (decision 0036).
    Of `overrides` the first whose glob matches a weight's name holds. With `expand` weights of 8 bits become float32
    again when a session starts (quantize/rewrite/dequantize_at_load.py), blocks may be longer, and `accuracy_level`
    says nothing.
    """

    bits: int
    block: int = 32
    symmetric: bool = True
    accuracy_level: int = 4
    embedding_bits: int = 8
    embedding_block: int = 32
    embedding_symmetric: bool = True
    embedding_accuracy_level: int | None = None  # lm_head's; None is that of the body
    embedding_frequent: int = 0
    embedding_centred: bool = False
    position_bits: int = 0
    expand: bool = False
    overrides: tuple[Override, ...] = ()

    def check(self, where: str) -> None:
        """Raise RecipeError for a value that the runtime has no kernel for."""
        widths, sizes = (dequantize_at_load.BITS, dequantize_at_load.SIZES) if self.expand else (BITS, SIZES)
        check_choice("bits", self.bits, widths, where)
        check_choice("block", self.block, sizes, where)
        check_choice("accuracy_level", self.accuracy_level, LEVELS, where)
        if self.embedding_accuracy_level is not None:
            check_choice("embedding_accuracy_level", self.embedding_accuracy_level, LEVELS, where)
        check_choice("embedding_bits", self.embedding_bits, (0, *widths), where)
        check_choice("embedding_block", self.embedding_block, sizes, where)
        check_choice("position_bits", self.position_bits, (0, *widths), where)
        check_frequent(self.embedding_frequent, self.embedding_bits, where, "embedding_")
        if self.embedding_frequent and self.expand:
            hint = "leave out embedding_frequent or expand"
            raise RecipeError("expanded weights have 8 bits", where=f"{where}: embedding_frequent", hint=hint)
        if self.embedding_centred and self.expand:
            hint = "leave out embedding_centred or expand"
            what = "products with expanded weights round no activations"
            raise RecipeError(what, where=f"{where}: embedding_centred", hint=hint)
        for i, override in enumerate(self.overrides):
            override.check(f"{where}: overrides[{i}]")
            if override.bits is not None:
                check_choice("bits", override.bits, (0, *widths), f"{where}: overrides[{i}]")


@dataclass(frozen=True)
class UncalibratedOptions(BlockwiseOptions):
    """Options of a scheme that sees no calibration text, and so knows no mean."""

    def check(self, where: str) -> None:
        """Raise RecipeError for a value that cannot be."""
        super().check(where)
        if self.embedding_centred:
            hint = "leave it out, or quantize by gptq or kquant, or by auto with centred = true"
            what = "this scheme sees no calibration text, which the mean is taken from"
            raise RecipeError(what, where=f"{where}: embedding_centred", hint=hint)


@dataclass(frozen=True)
class Choice:
    """State how one weight is quantized; None for what stays float."""

    scheme: str
    form: Form
    level: int
    centred: bool = False  # whether its products round their input less its mean over the calibration text

    def size(self, rows: int, columns: int) -> int:
        """Bytes that it takes in the file: codes and scales, and what puts the mean back."""
        return self.form.size(rows, columns) + (4 * (rows + columns) if self.centred else 0)


class Blockwise(Protocol):
    """A scheme's module that quantizes one matrix at a time."""

    CALIBRATED: bool  # whether it can use calibration
    Options: type[BlockwiseOptions]

    def solve(self, matrix: Floats, form: Form, moments: Moments | None, options: Any) -> Blocks:
        """Quantize a float32 matrix [N, K]. Raises ValueError for weights that are not finite."""


def check_frequent(frequent: int, bits: int, where: str, prefix: str = "") -> None:
    """Raise RecipeError for a number of first rows that cannot be, or for bits that leave the other rows none."""
    if frequent < 0:
        hint = "write how many first rows keep their bits, or 0 for all"
        raise RecipeError(f"{frequent} is not possible", where=f"{where}: {prefix}frequent", hint=hint)
    if frequent:
        check_choice(f"{prefix}bits", bits, TIERED, where)


def require_rows(weight: Weight, form: Form, where: str) -> None:
    """Raise RecipeError for a form whose `frequent` rows are all that a table has, so that it would say nothing."""
    rows = weight.shape[0]
    if form.frequent >= rows:
        hint = f"write less than {rows}, or 0 for the same bits in every row"
        raise RecipeError(f"{form.frequent} frequent rows, but {weight.name} has {rows}", where=where, hint=hint)


def blockwise_schemes() -> tuple[str, ...]:
    """Names of the schemes that offer `solve`."""
    return tuple(name for name in plugins.names(FOLDER) if hasattr(_import(name), "solve"))


def apply(model: ir.Model, scheme: str, options: BlockwiseOptions, context: Context) -> None:
    """Quantize every linear layer, and the tables unless their bits are 0, by `scheme` unless overridden."""
    weights = find_weights(model, context.dims)
    chosen = choose(weights, scheme, options)
    solved = side_by_side([(weight, [choice]) for weight, choice in chosen], context, options)
    progress = tqdm(chosen, desc=scheme, unit="tensor", file=sys.stderr, leave=False, disable=None)
    for (weight, choice), (blocks,) in zip(progress, solved, strict=True):
        if options.expand:
            dequantize_at_load.expand(model, weight, blocks)
        else:
            place(model, weight, blocks, choice.level, centre(weight, choice, context))


def centre(weight: Weight, choice: Choice, context: Context) -> Floats | None:
    """Return what a weight's products take off their input before they round it, float32 [K]; None for nothing."""
    return context.calibrated(choice.scheme).moments[weight.stem].mean if choice.centred else None


def rounds_centred(weight: Weight, level: int, *, asked: bool) -> bool:
    """Return whether a table's products round their input, and are asked to do so less its mean."""
    return asked and weight.table and bool(weight.products) and level == ROUNDING


def side_by_side(
    wanted: Sequence[tuple[Weight, Sequence[Choice]]], context: Context, options: BlockwiseOptions | None = None
) -> Iterator[list[Blocks]]:
    """Solve these choices of these weights, AT_ONCE weights at a time; yields the results of each weight, in order."""
    for scheme in {choice.scheme for _, choices in wanted for choice in choices}:
        if _import(scheme).CALIBRATED and context.calibration is not None:
            _ = context.calibrated(scheme).moments  # found before two threads ask for them
    for start in range(0, len(wanted), AT_ONCE):
        yield from _solve_group(wanted[start : start + AT_ONCE], context, options)


def _solve_group(
    group: Sequence[tuple[Weight, Sequence[Choice]]], context: Context, options: BlockwiseOptions | None
) -> list[list[Blocks]]:
    def work(at: int, _: int) -> list[Blocks]:
        weight, choices = group[at]
        return [solve(weight, choice, context, options) for choice in choices]

    return by_groups(work, len(group), 1)


def scheme_of(weight: Weight, choice: Choice) -> str:
    """Return what a weight is quantized by: one that only lookups read has no inputs to calibrate with."""
    return choice.scheme if weight.products else "rtn"


def solve(weight: Weight, choice: Choice, context: Context, options: BlockwiseOptions | None = None) -> Blocks:
    """One weight by its choice; `options` count if they are of the chosen scheme; else its defaults do.

    What took time is kept in the context, for another variant or plan that asks for the same. InputError, naming the
    weight, when it is not finite.
    """
    name = scheme_of(weight, choice)
    scheme = _import(name)
    own = options if isinstance(options, scheme.Options) else scheme.Options(bits=choice.form.bits)
    if name == "rtn":  # takes no time, and may be the form of whole variants
        return _solve(weight, name, choice.form, context, own)
    general = {field.name for field in fields(BlockwiseOptions)}
    settings = [getattr(own, field.name) for field in fields(own) if field.name not in general]
    key = (weight.stem, weight.transposed, name, choice.form, *settings)
    if key not in context.solved:
        context.solved[key] = _solve(weight, name, choice.form, context, own)
    return context.solved[key]


def _solve(weight: Weight, name: str, form: Form, context: Context, options: Any) -> Blocks:
    scheme = _import(name)
    moments = None
    if scheme.CALIBRATED and (needs_text(scheme) or context.calibration is not None):
        moments = context.calibrated(name).moments[weight.stem]
    matrix = weight.matrix()
    tiers = (matrix[: form.frequent], matrix[form.frequent :]) if form.frequent else (matrix,)
    try:
        first, *rest = [scheme.solve(*tier, moments, options) for tier in zip(tiers, form.tiers, strict=True)]
        return replace(first, rest=rest[0]) if rest else first
    except ValueError as error:
        raise not_finite(weight, error) from error


def choose(weights: Weights, scheme: str, options: BlockwiseOptions) -> list[tuple[Weight, Choice]]:
    """A choice for every weight that is quantized. RecipeError for an override whose glob matches no weight."""
    level = options.accuracy_level if options.embedding_accuracy_level is None else options.embedding_accuracy_level
    inner = (options.bits, options.block, options.symmetric, options.accuracy_level)
    outer = (options.embedding_bits, options.embedding_block, options.embedding_symmetric, level)
    places = (options.position_bits, 32, True, options.accuracy_level)
    defaults: list[tuple[Weight, tuple[int, int, bool, int]]] = [(weight, inner) for weight in weights.body]
    defaults += [(weight, outer) for weight in weights.tables]
    defaults += [(weight, places) for weight in weights.lookups]
    _require_matches([weight for weight, _ in defaults], options.overrides)
    chosen = []
    for weight, (bits, block, symmetric, accuracy) in defaults:
        other = next((o for o in options.overrides if fnmatch.fnmatchcase(weight.name, o.tensors)), Override(""))
        wanted = bits if other.bits is None else other.bits
        if wanted:
            frequent = options.embedding_frequent if weight in weights.tables else 0
            form = Form(wanted, _or(other.block, block), _or(other.symmetric, symmetric), frequent)
            check_frequent(frequent, wanted, weight.name)  # an override may have changed the bits
            require_rows(weight, form, "embedding_frequent")
            used = _or(other.accuracy_level, accuracy)
            centred = rounds_centred(weight, used, asked=options.embedding_centred)
            chosen.append((weight, Choice(_or(other.scheme, scheme), form, used, centred)))
    return chosen


def _or(value: T | None, default: T) -> T:
    return default if value is None else value


def _require_matches(weights: Sequence[Weight], overrides: Iterable[Override]) -> None:
    for i, override in enumerate(overrides):
        if not any(fnmatch.fnmatchcase(weight.name, override.tensors) for weight in weights):
            names = ", ".join(weight.name for weight in weights[:8])
            hint = f"name a weight of the model, or several with *; they are {names}, ..."
            raise RecipeError(f"{override.tensors!r} matches no weight", where=f"overrides[{i}]: tensors", hint=hint)


def _import(name: str) -> Blockwise:
    return cast(Blockwise, module(name))
