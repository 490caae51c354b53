"""GPTQ: each column's rounding error is compensated by the columns that are not rounded yet, as the inputs correlate.

Sources: Frantar et al., "GPTQ", 2022 (columns in blocks, Cholesky factor of the inverse Hessian, dampening, static
groups with act-order). The error of a layer is tr((W - Q) H (W - Q)^T) with H the second moments of its input over
calibration text. Scales are searched for each block before rounding, an error counting 1 / (H^-1)_jj: what remains of
it after the other columns have compensated. Then `sweeps` of coordinate descent over the same error: every code in turn
takes its best value given all others, then every scale; the error can only fall (Behdin et al., "QuantEase", 2023).

Where the calibration has gradients, with second moments G of those of the layer's output, the error that counts is
tr(G (W - Q) H (W - Q)^T) (Tseng et al., "YAQA", 2025): rows are no longer apart, and every code in turn takes its best
value for it. Of a table that lookups read too, H holds what gradients say of these (decision 0037).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from scipy.linalg import lapack

from pipeline.errors import RecipeError
from quantize import blockwise
from quantize.blockwise import AT_ONCE, BlockwiseOptions
from quantize.calibration import Moments
from quantize.numerics import loops
from quantize.numerics.blocks import Blocks, Bytes, Floats, Form, cut, join
from quantize.numerics.cores import alone, by_groups
from quantize.numerics.scales import search
from quantize.scheme import Context

Order = npt.NDArray[np.intp]
CALIBRATED = True
NEEDS_TEXT = True
LAZY = 32  # columns whose compensation reaches the rest of the matrix in one product
ROWS = 256  # rows worked on at a time: their [columns, rows] stay in the processor's caches
TOGETHER = 3  # sweeps over all rows together, as decision 0037 measured them; other numbers were not


@dataclass(frozen=True)
class Options(BlockwiseOptions):
    """`damping` is added to H's diagonal as a share of its mean: 0 fits the calibration text, more trusts it less.

    For a table that lookups read too, `embedding_damping` is used where the calibration has no gradients: an
    embedding's error then has nothing to be weighed with, so the head's error must not be reduced at its cost (damping
    toward the identity).
    `output_damping` is added to G's diagonal, which few texts know little of. With `sweeps` 0 codes stay as the first
    pass rounds them, and G is not used.
    """

    damping: float = 0.01
    embedding_damping: float = 0.1
    output_damping: float = 0.3
    act_order: bool = True
    sweeps: int = 2

    def check(self, where: str) -> None:
        """Raise RecipeError for a value that cannot be."""
        super().check(where)
        for name in ("damping", "embedding_damping", "output_damping"):
            if not 0 < getattr(self, name) <= 100:
                hint = "write a number above 0, such as 0.01"
                raise RecipeError(f"{getattr(self, name)} is not possible", where=f"{where}: {name}", hint=hint)
        if not 0 <= self.sweeps <= 100:
            raise RecipeError(f"{self.sweeps} is not possible", where=f"{where}: sweeps", hint="write 0 to 100")


def apply(model: ir.Model, options: Options, context: Context) -> None:
    """Quantize every linear layer and table of a graph in place."""
    blockwise.apply(model, "gptq", options, context)


def solve(matrix: Floats, form: Form, moments: Moments | None = None, options: Options | None = None) -> Blocks:
    """Quantize a float32 matrix [N, K] for inputs with the second moments [K, K].

    Raises ValueError for NaN or infinite weights or moments.
    """
    if moments is None:
        raise ValueError("no calibration moments")
    settings = options if options is not None else Options(bits=form.bits)
    blind = moments.lookups and moments.picked is None
    damping = settings.embedding_damping if blind else settings.damping
    hessian, order, factor, weights = _prepare(moments, damping, act_order=settings.act_order)
    weights = np.pad(weights, (0, -len(weights) % form.block)).reshape(1, -1, form.block)

    def rows(start: int, stop: int) -> _Columns:
        grid = cut(matrix[start:stop], form)
        scale, zero = search(grid, weights, form)
        work = _Columns(grid, scale, zero, form, matrix.shape[1])
        work.compensate(order, factor)
        for _ in range(settings.sweeps):
            work.sweep(hessian)
        return work

    whole = _Columns.joined(by_groups(rows, len(matrix), ROWS))
    if moments.output is not None and settings.sweeps:
        output = _damped(moments.output, settings.output_damping)
        with alone():
            for _ in range(TOGETHER):
                whole.sweep_together(hessian, output)
    return join(form, whole.codes(), whole.scale.T, whole.zero.T, matrix.shape[1])


def _damped(second: Floats, damping: float) -> Floats:
    moments = np.asarray(second, np.float64)
    if not np.isfinite(moments).all():
        raise ValueError("NaN or infinite calibration moments")
    mean = float(np.diagonal(moments).mean()) or 1.0
    return (moments / mean + damping * np.eye(len(moments))).astype(np.float32)


@functools.lru_cache(maxsize=AT_ONCE)
def _prepare(moments: Moments, damping: float, *, act_order: bool) -> tuple[Floats, Order, Floats, Floats]:
    """The damped H, the columns' order, the Cholesky factor U of the inverse in that order (U^T U), 1 / (H^-1)_jj.

    U is the inverse of the upper R with H = R R^T, and R is the lower factor of H turned end for end. Kept until other
    moments come, for one tensor is solved in many forms, and AT_ONCE tensors side by side.
    """
    hessian = _damped(moments.rows, damping)
    size = len(hessian)
    order = np.argsort(-np.diagonal(hessian), kind="stable") if act_order else np.arange(size)
    turned = hessian[np.ix_(order[::-1], order[::-1])].astype(np.float64)
    with alone():
        lower, _ = lapack.dtrtri(np.linalg.cholesky(turned), lower=1)
    factor = np.ascontiguousarray(np.tril(lower)[::-1, ::-1])
    weights = np.empty(size, np.float32)
    weights[order] = 1 / np.square(factor).sum(axis=0)
    return hessian, order, factor.astype(np.float32), weights


class _Columns:
    """Some rows of a matrix on its side, so that a column is contiguous: [columns, rows], and [blocks, rows]."""

    def __init__(self, grid: Floats, scale: Floats, zero: Floats, form: Form, columns: int) -> None:
        rows = len(grid)
        self.form = form
        self.weight = np.ascontiguousarray(grid.reshape(rows, -1)[:, :columns].T)
        self.scale = np.ascontiguousarray(scale.T)
        self.zero = np.ascontiguousarray(zero.T)
        self.code = np.empty_like(self.weight)  # less the zero point

    @classmethod
    def joined(cls, works: Sequence[Self]) -> Self:
        """All rows of a matrix, from those of its groups."""
        whole = cls.__new__(cls)
        whole.form = works[0].form
        for name in ("weight", "scale", "zero", "code"):
            setattr(whole, name, np.concatenate([getattr(work, name) for work in works], axis=1))
        return whole

    def compensate(self, order: Order, factor: Floats) -> None:
        """GPTQ's pass: round columns in the given order, spreading each error over those that follow."""
        work = self.weight[order]
        form = (np.float32(self.form.top), self.form.block)
        for start in range(0, len(work), LAZY):
            stop = min(start + LAZY, len(work))
            own = np.ascontiguousarray(factor[start:stop, start:stop])
            errors = loops.compensate(work[start:stop], order[start:stop], own, self.scale, self.zero, form, self.code)
            work[stop:] -= factor[start:stop, stop:].T @ errors

    def sweep(self, hessian: Floats) -> None:
        """One round of coordinate descent over all codes and scales."""
        gradient = hessian @ (self._values() - self.weight)
        top = np.float32(self.form.top)
        for block, cut_ in self._blocks():
            near = np.ascontiguousarray(hessian[cut_, cut_])
            scale, codes, local = self.scale[block], self.code[cut_], gradient[cut_]
            before = codes * scale
            loops.descend(local, near, scale, self.zero[block], top, codes)
            loops.rescale(local, near @ codes, codes, scale)
            gradient[cut_.stop :] += hessian[cut_.stop :, cut_] @ (codes * scale - before)

    def sweep_together(self, hessian: Floats, output: Floats) -> None:
        """One round of coordinate descent over all codes, by the error of all rows together."""
        gradient = hessian @ (self._values() - self.weight) @ output
        top = np.float32(self.form.top)
        for block, cut_ in self._blocks():
            near = np.ascontiguousarray(hessian[cut_, cut_])
            grid = self.scale[block], self.zero[block]
            spread = loops.descend_together(gradient[cut_], (near, output), *grid, top, self.code[cut_])
            gradient[cut_.stop :] += hessian[cut_.stop :, cut_] @ spread

    def codes(self) -> Bytes:
        """The codes [rows, blocks, block], padding included."""
        rows = self.code.shape[1]
        count = len(self.scale)
        whole = np.zeros((rows, count * self.form.block), np.float32)
        whole[:, : len(self.code)] = self.code.T
        return (whole.reshape(rows, count, -1) + self.zero.T[..., None]).astype(np.uint8)

    def _blocks(self) -> Iterator[tuple[int, slice]]:
        for block in range(len(self.scale)):
            yield block, slice(block * self.form.block, min((block + 1) * self.form.block, len(self.code)))

    def _values(self) -> Floats:
        return self.code * np.repeat(self.scale, self.form.block, axis=0)[: len(self.code)]
