"""Calibration text as token ids, and the second moments that it gives the inputs of every product."""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common as passes
from tqdm import tqdm

from model.contract import Dimensions
from pipeline.errors import InputError, RecipeError
from quantize.calibration_texts import token_ids
from quantize.gradients import GradientMoments, GradientSource, gradient_moments
from quantize.numerics import loops
from quantize.numerics.blocks import SIZES, Floats
from quantize.numerics.cores import by_groups
from quantize.rewrite.graph import load
from quantize.rewrite.weights import Weight, find_weights
from quantize.runner import GraphRunner, Ids
from quantize.sampling import Draws, first_token, sampled

TOKENIZER = "tokenizer.json"
SAMPLED = "sampled"  # among the facts of a model: what tells the text apart that the model wrote itself
# Shares of the text: what moments are taken from, what sensitivities are measured on, what a result is judged on.
PARTS = {"fit": (0.0, 0.8), "measure": (0.8, 0.9), "judge": (0.9, 1.0)}
COUNTS = {"measure": 3, "judge": 6}  # chunks of a part; of "fit" the recipe says how many


@dataclass(frozen=True, eq=False)
class Moments:
    """Means over tokens for the input x of a product, and what else reads the weight."""

    second: Floats  # of x x^T, float32 [K, K]
    mean: Floats  # of x, float32 [K]
    lookups: bool  # whether the weight is also a table that rows are picked from
    peaks: Mapping[int, Floats] = field(default_factory=dict)  # of max(x^2) over each block, [K / block], by block size
    output: Floats | None = None  # of g g^T for the gradient g of the product's output, float32 [N, N], if asked for
    picked: Floats | None = None  # what errors of rows that are picked count by beside `second`, [K, K], if asked for

    @property
    def rows(self) -> Floats:
        """Return what an error of a row counts by, float32 [K, K], in every product and lookup that is known of."""
        return self.second if self.picked is None else self.second + self.picked

    def rounding(self, block: int) -> Floats:
        """Mean squared error of rounding x to int8 with one scale for each block, [K]: a 12th of the squared step."""
        steps = np.repeat(self.peaks[block], block)[: len(self.second)] / np.float32(127**2)
        return steps / np.float32(12)

    def weight_error(self, error: Floats) -> float:
        """Squared error of the product's output, summed over it, for an error [N, K] of its weight.

        Where gradients are known it is weighed by them: tr(G E H E^T).
        """
        weighed = error if self.output is None else self.output @ error
        return float(np.einsum("ij,ij->", error @ self.second, weighed, dtype=np.float64))

    def input_error(self, matrix: Floats, block: int) -> float:
        """The same from rounding the inputs of a weight [N, K] to int8, each on its own."""
        weighed = matrix if self.output is None else self.output @ matrix
        squares = np.einsum("ij,ij->j", matrix, weighed, dtype=np.float64)
        return float(squares @ self.rounding(block))


@dataclass(frozen=True)
class Calibration:
    """Texts, and the fp32 graph that is run on them. Nothing is read before it is needed."""

    paths: tuple[Path, ...]  # the texts, in the order that they are read in
    graph: Path
    tokenizer: Path
    dims: Dimensions
    chunk: int  # tokens
    chunks: int
    sampled: float = 0.0  # share of the chunks that the model writes itself
    seed: int = 0  # decides what it draws
    work: Path | None = None  # directory in which a later run finds what it wrote
    checkpoint: GradientSource | None = None  # whose gradients weigh what linear layers put out; None: all count alike

    @cached_property
    def ids(self) -> Ids:
        """All texts, int64 [tokens]. RecipeError when one cannot be read, InputError for a bad line or tokenizer."""
        ids = np.asarray(token_ids(self.paths, self.tokenizer), np.int64)
        if ids.max(initial=0) >= self.dims.vocabulary:
            hint = "convert the source again: its tokenizer does not belong to its weights"
            raise InputError("token ids beyond the vocabulary", where=self.tokenizer, hint=hint)
        return ids

    def pieces(self, part: str, count: int) -> Ids:
        """`count` chunks of a part, int64 [count, chunk]: in text order, spread over it; then those of the model.

        RecipeError when that part is too short, or a chunk longer than the model's context.
        """
        if self.chunk > self.dims.context:
            hint = f"write at most {self.dims.context}, the model's context"
            raise RecipeError(
                f"chunks of {self.chunk} tokens are longer than the model reads", where="calibration: chunk", hint=hint
            )
        own = self._share(count)
        chunks = [self._read(part, count - own)] if own < count else []
        return np.concatenate([*chunks, *([self._written(part, own)] if own else [])])

    @property
    def record(self) -> dict[str, Any]:
        """Return what tells the text that the model wrote apart from any other; nothing where it wrote none."""
        if not self.sampled:
            return {}
        content = hashlib.sha256(self._own.tobytes()).hexdigest()
        return {SAMPLED: {"chunks": len(self._own), "seed": self.seed, "sha256": content}}

    @cached_property
    def _own(self) -> Ids:
        """All chunks that the model writes, int64 [chunks, chunk]."""
        begin = first_token(self.tokenizer.parent, self.dims.vocabulary)
        draws = Draws(sum(self._shares.values()), self.chunk, self.seed)
        return sampled(self.graph, begin, draws, self.work)

    @cached_property
    def _shares(self) -> dict[str, int]:
        """Return how many chunks of each part the model writes, in the parts' order."""
        return {part: self._share(count) for part, count in {"fit": self.chunks, **COUNTS}.items()}

    def _share(self, count: int) -> int:
        """Return how many of so many chunks the model writes."""
        return math.ceil(count * self.sampled)

    def _written(self, part: str, count: int) -> Ids:
        """Chunks of the model's own: no part has one of another's."""
        shares = list(self._shares.values())
        start = sum(shares[: list(self._shares).index(part)])
        return self._own[start : start + count]

    def _read(self, part: str, count: int) -> Ids:
        """Chunks of the recipe's texts."""
        begin, end = (int(len(self.ids) * share) for share in PARTS[part])
        spare = (end - begin) // count - self.chunk
        if spare < 0:
            what = f"{end - begin} tokens to {part} with, {self.chunk * count} are needed"
            hint = "name a longer text in calibration.text, or fewer or shorter chunks"
            raise RecipeError(what, where=", ".join(map(str, self.paths)), hint=hint)
        starts = begin + np.arange(count) * (self.chunk + spare)
        return np.stack([self.ids[start : start + self.chunk] for start in starts])

    @cached_property
    def moments(self) -> dict[str, Moments]:
        """The moments for every weight that a product reads, by `Weight.stem`."""
        pieces = self.pieces("fit", self.chunks)
        found = self._collect(pieces)
        if self.checkpoint is None:
            return found
        gradients = gradient_moments(self.checkpoint, self._layers(), pieces)
        return {stem: _weighed(stem, moments, gradients) for stem, moments in found.items()}

    def _collect(self, pieces: Ids) -> dict[str, Moments]:
        """The moments without gradients, in one pass of the graph over the text."""
        runner, read, lookups = _reader(self.graph, self.dims)
        names = list(dict.fromkeys(name for inputs in read.values() for name in inputs))
        sums: dict[str, list[Floats]] = {}
        for ids in tqdm(pieces, desc="calibrate", unit="chunk", file=sys.stderr, leave=False, disable=None):
            _add(sums, dict(zip(names, runner.run(names, ids), strict=True)))
        return {
            stem: _moments([sums[name] for name in inputs], len(pieces), lookups=stem in lookups)
            for stem, inputs in read.items()
        }

    def _layers(self) -> dict[str, Floats]:
        """The matrices of linear layers, float32 [N, K], by `Weight.stem`."""
        return {weight.stem: weight.matrix() for weight in find_weights(load(self.graph), self.dims).body}


def _reader(graph: Path, dims: Dimensions) -> tuple[GraphRunner, dict[str, list[str]], set[str]]:
    """The graph up to the inputs of products; their names, by `Weight.stem`; which weights are looked up, too."""
    model = load(graph)
    weights = find_weights(model, dims)
    read = {weight.stem: _inputs(weight) for weight in (*weights.body, *weights.tables) if weight.products}
    _return_only(model, [value for values in read.values() for value in values])
    names = {stem: [str(value.name) for value in values] for stem, values in read.items()}
    return GraphRunner(model), names, {weight.stem for weight in weights.tables if weight.lookups}


def _add(sums: dict[str, list[Floats]], inputs: Mapping[str, Floats]) -> None:
    """Add the means of one chunk's inputs, each [1, tokens, K], on every core."""
    names = list(inputs)

    def add(at: int, _: int) -> None:
        name = names[at]
        means = _means(inputs[name].reshape(-1, inputs[name].shape[-1]))
        sums[name] = [a + b for a, b in zip(sums[name], means, strict=True)] if name in sums else means

    by_groups(add, len(names), 1)


def _means(rows: Floats) -> list[Floats]:
    """Of one chunk's inputs [tokens, K]: second and first moments, and for each block size the mean squared peaks."""
    found = [rows.T @ rows / np.float32(len(rows)), rows.mean(axis=0)]
    peaks, finer = rows, 1
    for block in SIZES:
        peaks, finer = loops.peaks(peaks, block // finer), block
        found.append(np.square(peaks).mean(axis=0))
    return found


def _moments(sums: list[list[Floats]], chunks: int, *, lookups: bool) -> Moments:
    """Means from the sums over chunks, of all the products that read one weight."""
    second, mean, *peaks = (sum(parts[1:], parts[0]) / np.float32(chunks) for parts in zip(*sums, strict=True))
    return Moments(second, mean, lookups, dict(zip(SIZES, peaks, strict=True)))


def _weighed(stem: str, moments: Moments, gradients: GradientMoments) -> Moments:
    """The moments with what gradients say of the same weight.

    A row's error e moves the divergence by e^T H e for each position, times p (1 - p) of its token, and by e^T G e
    whenever the row is picked, G being the gradients' moments of embeddings. Tokens are picked as often as they are
    said, so that G counts once for what p (1 - p) adds up to over all rows.
    """
    if moments.lookups:
        return replace(moments, picked=gradients.embedding / gradients.logits)
    return replace(moments, output=gradients.layers.get(stem))


def _inputs(weight: Weight) -> list[ir.Value]:
    found = [node.inputs[0] for node in weight.products]
    return [value for value in found if value is not None]


def _return_only(model: ir.Model, values: list[ir.Value]) -> None:
    """Make these values the graph's only outputs, so that nothing else is computed (the logits above all)."""
    model.graph.outputs.clear()
    for value in dict.fromkeys(values):
        value.type = ir.TensorType(ir.DataType.FLOAT)
        model.graph.outputs.append(value)
    passes.RemoveUnusedNodesPass()(model)
