"""Measure what quantizing one tensor does to the fp32 graph's logits, everything else left as it is."""

from __future__ import annotations

import hashlib
import importlib.metadata
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from tqdm import tqdm

from model import external_data
from pipeline.canonical import digest, file_digest
from pipeline.plugins import ROOT
from pipeline.recipe.calibration import text_digest
from quantize.blockwise import ROUNDING, Choice, centre, side_by_side, solve
from quantize.calibration import COUNTS
from quantize.numerics.activations import rounding_error
from quantize.numerics.blocks import Floats, Form, dequantize
from quantize.numerics.cores import alone
from quantize.rewrite.weights import Weight
from quantize.scheme import Context
from quantize.search.allocate import Item
from quantize.search.fidelity import divergences
from quantize.search.journal import Journal
from quantize.search.remainder import ROWS, Remainders

CHUNKS = COUNTS["measure"]  # of the calibration text's part "measure"; the second half of each is scored
SMALL = 4  # bits from which on an error of weights moves the divergence in proportion to its square
WHOLE, PRODUCT = "whole", "product"  # every reader of a weight, or its products alone
# The code and libraries that decide a measurement.
CODE = (
    "model/checkpoint",
    "model/divergence",
    "model/pytorch",
    "model/settings",
    "quantize/numerics/activations",
    "quantize/numerics/blocks",
    "quantize/numerics/cores",
    "quantize/numerics/loops",
    "quantize/blockwise",
    "quantize/calibration",
    "quantize/calibration_texts",
    "quantize/gradients",
    "quantize/runner",
    "quantize/sampling",
    "quantize/numerics/scales",
    "quantize/search/fidelity",
    "quantize/search/remainder",
    "quantize/search/sensitivity",
    "quantize/rewrite/weights",
)
TOOLS = ("numba", "numpy", "onnxruntime", "scipy", "tokenizers", "torch", "transformers")


@dataclass(frozen=True)
class Slot:
    """One tensor and the ways to store it; None keeps it float."""

    weight: Weight
    choices: tuple[Choice | None, ...]


def measure(slots: Sequence[Slot], context: Context) -> list[list[Item]]:
    """Bytes and mean KL divergence of every choice of every slot, from the journal where it is known."""
    probe = Probe(context, Journal(context.work / "sensitivity.jsonl"))
    missing = [(slot.weight, [c for c in slot.choices if c and not probe.knows(slot.weight, c)]) for slot in slots]
    items = []
    total = sum(len(slot.choices) for slot in slots)
    with tqdm(total=total, desc="measure", unit="choice", file=sys.stderr, leave=False, disable=None) as progress:
        for slot, _ in zip(slots, side_by_side(missing, context), strict=True):
            row = []
            anchor = _anchor(slot)
            for choice in slot.choices:
                kld = 0.0 if choice is None or anchor is None else probe.kld(slot.weight, choice, anchor)
                row.append(Item(size(slot.weight, choice), kld))
                progress.update()
            items.append(row)
    return items


class Probe:
    """Measure what choices do to the fp32 graph's logits. A journal keeps what was measured; the rest is arithmetic."""

    def __init__(self, context: Context, journal: Journal) -> None:
        self.context = context
        self.journal = journal
        self.base = _base(context)
        self._last: tuple[tuple[str, Choice], Floats] | None = None

    def knows(self, weight: Weight, choice: Choice) -> bool:
        """Return whether an earlier run has measured a choice, but for the divergence that it may be the anchor of."""
        whole = weight.table or weight.lookups or not weight.products
        return self.journal.get(self._key(f"kld {WHOLE}" if whole else "errors", weight, choice)) is not None

    def kld(self, weight: Weight, choice: Choice, anchor: Choice) -> float:
        """Mean KL divergence, in nats, from rounding the weight, and with accuracy_level 4 from rounding its input.

        Measured, for a linear layer, for the anchor only: divergence is proportional to the mean squared error of the
        layer's output, tr(E H E^T), to within the noise of measuring it from 4 bits on (decision 0008). Of 2 bits this
        is a guess: half to one and two thirds of what is measured (decision 0037). So the other choices follow from
        their errors, with less noise than from logits of their own. Rounding the input by a variance r_k for each
        column adds sum(w_nk^2 r_k) to that error. Where the calibration has gradients, with second moments G, both
        errors are weighed by them too: tr(G E H E^T).

        A table's choices are each measured, lookups included, and so is what rounding the head's input adds, of which
        a slope makes less than half (decision 0035).
        """
        if weight.table or not weight.products:
            return self._measured(weight, choice, WHOLE) + self._rounding(weight, choice)
        found, known = self._errors(weight, choice), self._errors(weight, anchor)
        slope = self._measured(weight, anchor, PRODUCT) / known["weight"] if known["weight"] else 0.0
        if not weight.lookups:
            return slope * (found["weight"] + found["input"])
        return self._measured(weight, choice, WHOLE) + slope * found["input"]

    def _errors(self, weight: Weight, choice: Choice) -> dict[str, float]:
        """Squared error of the products' output, summed over it, from the weight's rounding and from its input's."""
        key = self._key("errors", weight, choice)
        known = self.journal.get(key)
        if known is None:
            moments = self.context.calibrated("auto").moments[weight.stem]
            matrix = weight.matrix()
            error = self._rounded(weight, choice) - matrix
            rounds = choice.level == ROUNDING
            with alone():
                known = {
                    "weight": moments.weight_error(error),
                    "input": moments.input_error(matrix, choice.form.block) if rounds else 0.0,
                }
            self.journal.put(key, known)
        return known

    def _rounding(self, weight: Weight, choice: Choice) -> float:
        """Mean KL divergence from rounding the head's input as its products will, the weight left as it is."""
        if choice.level != ROUNDING or not weight.products:
            return 0.0
        key = self._key("rounding", weight, replace(choice, scheme="", form=Form(8, choice.form.block, symmetric=True)))
        known = self.journal.get(key)
        if known is None:
            mean, matrix = centre(weight, choice, self.context), weight.matrix()
            klds = []
            for logits, inputs in self._remainders.inputs(weight):
                off = rounding_error(inputs if mean is None else inputs - mean, choice.form.block)
                klds.append(divergences(logits, logits + off @ matrix.T).mean())
            known = {"kld": float(np.mean(klds))}
            self.journal.put(key, known)
        return known["kld"]

    def _measured(self, weight: Weight, choice: Choice, where: str) -> float:
        key = self._key(f"kld {where}", weight, choice)
        known = self.journal.get(key)
        if known is None:
            rounded = self._rounded(weight, choice)
            array = rounded if weight.transposed else np.ascontiguousarray(rounded.T)
            names = [weight.name] if where == PRODUCT or not weight.products else [weight.name, weight.name + ROWS]
            found = self._remainders.logits(dict.fromkeys(names, array))
            known = {"kld": float(np.mean([divergences(a, b).mean() for a, b in found]))}
            self.journal.put(key, known)
        return known["kld"]

    def _rounded(self, weight: Weight, choice: Choice) -> Floats:
        """Return what the quantized weight stands for, float32 [N, K]; the last is kept, for it is asked for twice."""
        name = (weight.stem, choice)
        if self._last is None or self._last[0] != name:
            self._last = (name, dequantize(solve(weight, choice, self.context)))
        return self._last[1]

    def _key(self, what: str, weight: Weight, choice: Choice) -> dict[str, Any]:
        return {"base": self.base, "what": what, "tensor": weight.stem, "choice": asdict(choice)}

    @cached_property
    def _remainders(self) -> Remainders:
        return Remainders(self.context, self.context.calibrated("auto").pieces("measure", CHUNKS))


def _anchor(slot: Slot) -> Choice | None:
    """The choice of a linear layer whose divergence is measured: the coarsest of those whose errors are small."""
    choices = filter(None, slot.choices)
    return min(choices, key=lambda choice: (choice.form.bits < SMALL, size(slot.weight, choice)), default=None)


def size(weight: Weight, choice: Choice | None) -> int:
    """Bytes of the weight's initializers."""
    n, k = weight.shape
    return 4 * n * k if choice is None else choice.size(n, k)


def _base(context: Context) -> str:
    """Digest of what decides every measurement, the tensor and its choice apart."""
    calibration = context.calibrated("auto")
    code = [ROOT / f"{name}.py" for name in CODE]
    schemes = sorted((ROOT / "quantize" / "schemes").glob("*.py"))
    return digest(
        {
            "code": [file_digest(path) for path in (*code, *schemes)],
            "graph": external_data.digests(context.graph),
            "text": text_digest(calibration.paths),
            "ids": hashlib.sha256(calibration.ids.tobytes()).hexdigest() if calibration.paths else None,
            "chunks": [calibration.chunk, calibration.chunks, CHUNKS],
            "sampled": calibration.record,
            "gradients": None if calibration.checkpoint is None else calibration.checkpoint.seed,
            "tools": {tool: importlib.metadata.version(tool) for tool in TOOLS},
        }
    )
