"""Weigh what linear layers and token embeddings put out: second moments of gradients of the model's own likelihood.

Source: Tseng et al., "Model-Preserving Adaptive Rounding", 2025 (YAQA; its first sketch, where inputs and gradients are
taken to be independent). Of tokens drawn from the distribution that the model gives, these moments are the curvature of
the divergence from that distribution: an error of an output counts as much as it moves what the model says.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import InputError
from quantize.numerics.blocks import Floats
from quantize.numerics.cores import by_groups
from quantize.runner import Ids
from quantize.sampling import drawn

EVERY = 2  # of the chunks that inputs are taken from, one in so many: as many gradients as are enough
GROUPS = 2  # of chunks, added up one after the other on a thread of their own: the same on any number of cores
LARGEST = 8 * 2**30  # bytes of the moments while they are added up
LEAVE = "leave gradients out of [calibration]"


@dataclass(frozen=True)
class GradientSource:
    """The checkpoint that the graph was made from, in PyTorch; `seed` decides which tokens are drawn."""

    directory: Path
    allow_pickle: bool
    seed: int


@dataclass(frozen=True, eq=False)
class GradientMoments:
    """Means over tokens of g g^T, for the gradient g of what a part of the model puts out."""

    layers: Mapping[str, Floats]  # of linear layers, float32 [N, N], by the names of their weights
    embedding: Floats  # of token embeddings, float32 [K, K]
    logits: Floats  # of logits, the sum of the diagonal: the mean of 1 - sum(p^2), float32 []

    def __iter__(self) -> Iterator[Floats]:
        yield from (*self.layers.values(), self.embedding, self.logits)


def gradient_moments(checkpoint: GradientSource, matrices: Mapping[str, Floats], texts: Ids) -> GradientMoments:
    """Run the checkpoint backwards over every second text.

    `matrices` are the layers' weights [N, K] as the graph has them, by the parameters' names; texts are int64
    [chunks, chunk]. InputError for a checkpoint that does not load, for one whose layers are others, and for a model
    whose moments would take more memory than LARGEST.
    """
    need = GROUPS * sum(4 * len(matrix) ** 2 for matrix in matrices.values())
    if need > LARGEST:
        what = f"the gradients of its layers would take {need / 2**30:.0f} GiB, {LARGEST / 2**30:.0f} at most are used"
        raise InputError(what, where=checkpoint.directory, hint=LEAVE)
    import torch

    from model.pytorch import load, one_thread

    model, _ = load(checkpoint.directory, allow_pickle=checkpoint.allow_pickle)
    model.requires_grad_(requires_grad=False)
    try:
        model.set_attn_implementation("sdpa")  # eager attention keeps every weight for the way back
    except (ImportError, ValueError) as error:
        raise InputError(
            f"transformers cannot run its attention: {error}", where=checkpoint.directory, hint=LEAVE
        ) from error
    layers = _layers(model, matrices, checkpoint.directory)
    width = model.get_input_embeddings().weight.shape[1]
    own = threading.local()
    chosen = texts[::EVERY]

    def group(start: int, stop: int) -> GradientMoments:
        own.sums = {name: np.zeros((len(matrix), len(matrix)), np.float32) for name, matrix in matrices.items()}
        embedding, logits = np.zeros((width, width), np.float32), np.zeros((), np.float32)
        for number in range(start, stop):
            shares = np.random.default_rng([checkpoint.seed, number]).random(chosen.shape[1:])
            rows, spread = _descend(model, torch.from_numpy(chosen[number : number + 1]), shares)
            embedding += rows.T @ rows
            logits += spread
        return GradientMoments(own.sums, embedding, logits)

    def add(name: str, gradient: Any) -> None:
        rows = gradient.reshape(-1, gradient.shape[-1])
        own.sums[name] += (rows.T @ rows).numpy()

    with _watched(layers, add), one_thread():
        first, *others = by_groups(group, len(chosen), -(-len(chosen) // GROUPS))
    for sums, *more in zip(first, *others, strict=True):  # in place: they are the largest that quantize holds
        for other in more:
            np.add(sums, other, out=sums)
        np.divide(sums, np.float32(chosen.size), out=sums)
    return first


def _descend(model: Any, ids: Any, shares: np.typing.NDArray[np.float64]) -> tuple[Floats, np.float32]:
    """Draw a token after each of ids [1, length], and find the gradient of their likelihood.

    That of the embeddings [length, K]; and 1 - sum(p^2) of each position's distribution, added up.
    """
    import torch

    start = model.get_input_embeddings()(ids).requires_grad_()
    logits = model(inputs_embeds=start, use_cache=False).logits[0]
    tokens = torch.from_numpy(drawn(logits.detach().numpy(), shares))
    slope = logits.detach().softmax(-1)
    spread = len(slope) - torch.linalg.vecdot(slope, slope).sum()
    slope[torch.arange(len(slope)), tokens] -= 1
    logits.backward(slope)  # of the cross-entropy, which would keep two arrays more of the logits' size
    return start.grad[0].numpy(), np.float32(spread)


def _layers(model: Any, matrices: Mapping[str, Floats], where: Path) -> dict[str, Any]:
    """The modules that have these weights. InputError where there is none, or where its outputs stand otherwise."""
    modules = dict(model.named_modules())
    found = {}
    for name, matrix in matrices.items():
        module = modules.get(name.removesuffix(".weight"))
        if module is None:
            raise InputError(f"no layer of the checkpoint has the weight {name}", where=where, hint=LEAVE)
        weight = module.weight.numpy()
        if not (np.array_equal(weight, matrix) or np.array_equal(weight.T, matrix)):
            raise InputError(f"the graph has {name} in another order than the checkpoint", where=where, hint=LEAVE)
        found[name] = module
    return found


@contextmanager
def _watched(layers: Mapping[str, Any], add: Callable[[str, Any], None]) -> Iterator[None]:
    """Call `add` with the gradient of each layer's output, whenever one is found."""

    def watch(name: str) -> Callable[..., None]:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            output.register_hook(lambda gradient: add(name, gradient))

        return hook

    handles = [layer.register_forward_hook(watch(name)) for name, layer in layers.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
