"""weights: each module of the graph, asked alone, must hold the reference's parameters, those too that no text reaches.

The runtime says what a weight is: a linear layer is asked with an identity matrix, a table for all of its entries, a
norm and an activation for fixed numbers. Parameters that are stored as numbers may differ by the rounding to their
type. Of quantized ones the error of every block and tensor is bounded, and the factor that would fit a block best must
be 1 within its own statistical error: a wrong scale is seen where its block's error is still within bounds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from verify.candidate.session import Candidate
from verify.candidate.subgraph import Cut, Cuts, entries_of, rows_of
from verify.check import Array, Case, Explaining, Measure, NotApplicable, Partial, Prompting
from verify.scoring.module_probes import SAMPLED, SMALL, Module, modules, questions_and_answers

if TYPE_CHECKING:  # torch takes seconds to load
    from verify.reference.model import Reference

NEEDS: tuple[str, ...] = ()
PER_LEVEL = False
TOLERATED = {
    "value_error": "max",
    "function_error": "max",
    "block_error": "max",
    "block_scale": "max",
    "tensor_error": "max",
    "tensor_scale": "max",
}
JUDGES = "modules"
PROMPTING: Prompting | None = None
SEEDED = False
BRIEF: Mapping[str, Any] = {}
EXPLAINING: Explaining | None = None
PRECISION = 2.0**-23  # float32: no factor is known better


@dataclass(frozen=True)
class Settings:
    """State whether modules may be `packed`, as other programs do: those that no node is named after are not judged."""

    packed: bool = False

    def check(self, where: str, context: int) -> None:
        """Nothing to refuse."""


def cases(reference: Reference, corpus: Any, settings: Settings) -> Iterator[Case]:
    """One case: all modules, with their parameters or their answers."""
    case = questions_and_answers(reference, "modules")
    yield replace(case, facts={**case.facts, **asdict(settings)})


def judge(candidate: Candidate, case: Case) -> Partial:
    """Figures of every module; NotApplicable for a graph that bears none of their names."""
    cuts = Cuts(candidate)
    figures: dict[str, dict[str, float]] = {}
    lookups: dict[str | None, Cut] = {}
    missing, compared = [], 0
    for module in modules(case):
        cut = cuts.find(module.name, module.value, lookup=module.kind == "lookup")
        if cut is None or (module.kind != "function" and not cut.stored):
            missing.append(module.name)
        elif module.kind == "function":
            question, answer, size = (case.arrays[f"{module.name}.{part}"] for part in ("question", "answer", "size"))
            figures[module.name] = {"function_error": _largest(cut.run(question[None])[0] - answer, size)}
            compared += int(answer.size)
        else:
            weight, bias = module.read(case)
            table = lookups.get(module.weight) if module.tied else None
            if table is None:
                figures[module.name] = _compare(cut, module, weight, bias)
            else:
                figures[module.name] = _compare_tied(cut, table, module, weight.shape[1])
            if module.kind == "lookup":
                lookups[module.weight] = cut
            compared += int(weight.size)
    if not figures:
        raise NotApplicable("no node of the graph bears the name of a module, so no weight could be told from another")
    return {"figures": figures, "missing": missing, "compared": compared, "packed": case.facts["packed"]}


def summarize(partials: list[Partial], observed: Any, reference: Reference) -> list[Measure]:
    """Modules that were not found, and the worst of every figure with its module."""
    (partial,) = partials
    figures, missing = partial["figures"], partial["missing"]
    count = len(figures) + len(missing)
    packed, fixed = partial["packed"], None if partial["packed"] else 0
    measures = [Measure("missing", len(missing), count, fixed=fixed, judged=not packed, detail=", ".join(missing[:3]))]
    for name in TOLERATED:
        values = {module: found[name] for module, found in figures.items() if name in found}
        if packed and not values:
            continue
        worst = max(values, key=lambda module: values[module], default="nothing")
        value = values.get(worst, float("inf"))
        measures.append(Measure(name, value, partial["compared"], detail=f"largest in {worst}"))
    return measures


def _compare(cut: Cut, module: Module, weight: Array, bias: Array | None) -> dict[str, float]:
    """All figures of one linear layer [in, out] or table [entries, width]."""
    sums = _Sums(cut.block)
    if module.kind == "lookup":
        sums, exact = _Sums(cut.row_block(weight.shape[1])), 0.0
        for piece, found in entries_of(cut, len(weight)):
            sums.add(found.T, weight[piece].T)
            exact = max(exact, 0.0 if cut.quantized else _largest(found - weight[piece], np.abs(weight[piece])))
        return {"value_error": exact, **sums.figures()}
    wanted = np.zeros(weight.shape[1], np.float32) if bias is None else np.asarray(bias)
    if cut.centre is not None:
        back, size = wanted.astype(np.float64), np.abs(wanted)
        for piece, found in rows_of(cut, len(weight)):
            sums.add(found, weight[piece])
            back += cut.centre[piece].astype(np.float64) @ found
            size = size + np.abs(cut.centre[piece]) @ np.abs(found)
        return {"value_error": _offset_error(cut, len(weight), back, size), **sums.figures()}
    offset = cut.run(np.zeros((1, 1, len(weight)), np.float32))[0, 0]
    exact = _largest(offset - wanted, np.abs(wanted))
    matrix = cut.matrix(weight.shape)
    if matrix is not None:
        exact = max(exact, _largest(matrix - weight, np.abs(weight)))
        sums.add(matrix, weight)
    for piece, found in rows_of(cut, len(weight), every=1 if matrix is None else SAMPLED):
        expected = (weight if matrix is None else matrix)[piece]
        if not cut.quantized:  # sums are compared as sums: the bias' rounding is no error of the weight
            size = np.maximum(np.abs(expected), np.abs(offset) * np.float32(2**-10))
            exact = max(exact, _largest(found - (expected + offset), size))
        if matrix is None:
            sums.add(found - offset, expected)
    return {"value_error": exact, **sums.figures()}


def _compare_tied(head: Cut, lookup: Cut, module: Module, entries: int) -> dict[str, float]:
    """A tied head against what the lookup gives: `structure` sees to it that both read one table; both must read it so.

    Only one input in SAMPLED is tested: all of them would take a third of this check's time.
    """
    columns, back, size = [], [], []
    for _, found in entries_of(lookup, entries):
        columns.append(found[:, ::SAMPLED])
        if head.centre is not None:  # what it puts back is of all its inputs
            back.append(found @ head.centre.astype(np.float64))
            size.append(np.abs(found) @ np.abs(head.centre))
    table = np.concatenate(columns)
    rows = np.concatenate([found for _, found in rows_of(head, module.size, every=SAMPLED)])
    error = _largest(rows - table.T, np.abs(table).max(axis=1))
    if back:
        error = max(error, _offset_error(head, module.size, np.concatenate(back), np.concatenate(size)))
    return {"function_error": error}


def _offset_error(cut: Cut, width: int, wanted: Array, size: Array) -> float:
    """Return how far a layer that takes a centre off its input is from putting back what its rows make of it [out].

    Relative to `size`, the numbers that are added up.
    """
    return _largest(cut.run(cut.origin(width))[0, 0] - wanted, size)


class _Sums:
    """Sums over blocks of a matrix' first axis, piece by piece, and what they say."""

    def __init__(self, block: int) -> None:
        self._block = block
        self._worst = {"block_error": 0.0, "block_scale": 0.0}
        self._total = np.zeros(4)

    def add(self, found: Array, wanted: Array) -> None:
        """One piece of whole blocks, float32 [rows, columns]."""
        if np.array_equal(found, wanted):
            square = float(np.einsum("kn,kn->", wanted, wanted, dtype=np.float64))
            self._total += [0, square, 0, square]
            return
        block = min(self._block, len(found))
        spare = -len(found) % block
        shape = (-1, block, found.shape[1])
        f, w = (np.pad(a, ((0, spare), (0, 0))).reshape(shape) if spare else a.reshape(shape) for a in (found, wanted))
        off = f - w
        products = ((f, off), (f, f), (off, off), (w, w))
        fr, ff, rr, ww = (np.einsum("bkn,bkn->bn", a, b).astype(np.float64) for a, b in products)
        self._total += [fr.sum(), ff.sum(), rr.sum(), ww.sum()]
        for name, value in (("block_error", _ratio(rr, ww)), ("block_scale", _scale(fr, ff, rr, block))):
            largest = float(value.max())
            self._worst[name] = max(self._worst[name], largest) if np.isfinite(largest) else float("inf")

    def figures(self) -> dict[str, float]:
        """Relative errors of the worst block and of the tensor, and the best factor of each: see the module's text."""
        fr, ff, rr, ww = self._total
        scale = abs(fr / ff) if ff else float(rr > 0)
        return {**self._worst, "tensor_error": float(_ratio(rr, ww)), "tensor_scale": float(scale)}


def _ratio(rr: Any, ww: Any) -> Any:
    """Relative error; where nothing is wanted, any error is infinite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(rr == 0, 0.0, np.sqrt(rr / ww))


def _scale(fr: Array, ff: Array, rr: Array, block: int) -> Array:
    """Return how many of its standard errors the best factor of a block is from 1; blocks that are zero have none.

    With r = f - w, the factor <f,w>/<f,f> is 1 - <f,r>/<f,f>, and <r,r> - <f,r>^2/<f,f> is what it leaves of the error.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        off = np.abs(fr / ff)
        left = np.maximum(rr - fr * fr / ff, 0)
        error = np.maximum(np.sqrt(left / ff / max(block - 1, 1)), PRECISION)
        return np.where(ff == 0, 0.0, off / error)


def _largest(error: Array, size: Array) -> float:
    """Largest relative error; infinity for what is not finite."""
    value = float(np.max(np.abs(error) / np.maximum(size, SMALL)))
    return value if np.isfinite(value) else float("inf")
