"""Logits of the likeliest tokens: what a runtime states of each position, and how far that is from the reference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from verify.check import Array

STATED = 8  # tokens of each position whose logits are stated
Top = list[list[tuple[int, float]]]  # by position: tokens with their logits


def top_of(logits: Array, count: int = STATED) -> Top:
    """Return the `count` likeliest tokens with their logits for each row of [rows, vocabulary]. NaN comes first."""
    tokens = _likeliest(logits, count)
    stated = np.take_along_axis(logits, tokens, axis=-1)
    return [list(zip(*row, strict=True)) for row in zip(tokens.tolist(), stated.tolist(), strict=True)]


def best_of(logits: Array) -> Array:
    """Return the reference's likeliest tokens, one more than runtimes state: int64 [rows, STATED + 1]."""
    return _likeliest(logits, STATED + 1)


def _likeliest(logits: Array, count: int) -> Array:
    """Return the `count` likeliest tokens of each row, likeliest first, the lower of two equal ones first.

    By one maximum after the other: as fast as numpy's argpartition, which chooses wrong tokens in a process on AVX2
    that qemu 7.2 emulates (docs/decisions/0020).
    """
    keys = np.where(np.isfinite(logits), logits, np.inf)
    rows, found = np.arange(len(keys)), []
    for _ in range(min(count, keys.shape[-1])):
        found.append(keys.argmax(axis=-1))
        keys[rows, found[-1]] = -np.inf
    return np.stack(found, axis=-1)


def errors(top: Sequence[Sequence[Sequence[float | None]]], wanted: Array, best: Array) -> Array:
    """Return the largest error of each position, float64 [rows]: infinite where a stated logit is no number.

    A token that is not stated has at most the smallest stated logit. If the reference ranks a missing one higher, the
    error is at least that difference. `best` are the reference's likeliest (`best_of`).
    """
    if len(top) != len(wanted):
        raise ValueError(f"{len(top)} positions, {len(wanted)} are wanted")
    if not len(wanted):
        return np.zeros(0)
    stated = np.array(top, np.float64)  # None becomes NaN
    tokens, logits = stated[..., 0].astype(np.int64), stated[..., 1]
    if tokens.min() < 0:
        raise IndexError("a negative token")
    found = np.abs(logits - np.take_along_axis(wanted, tokens, axis=-1)).max(axis=-1)
    missing = (best[:, :, None] != tokens[:, None, :]).all(axis=-1)
    left = np.where(missing, np.take_along_axis(wanted, best, axis=-1), -np.inf).max(axis=-1)
    found = np.maximum(found, left - logits.min(axis=-1))
    return np.where(np.isfinite(found), found, np.inf)
