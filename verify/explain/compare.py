"""Measure how far a tensor is from its true value, where it counts."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from model.truth import BLOCKED, Truth
from verify.check import Array


@dataclass(frozen=True)
class Gap:
    """Largest difference, largest true value, root mean square of the differences over that of the true values."""

    largest: float | None  # None: not finite, or not comparable
    scale: float
    rms: float | None

    @staticmethod
    def infinite() -> Gap:
        """Values that cannot be compared."""
        return Gap(None, 0.0, None)

    @property
    def relative(self) -> float:
        """Largest difference as a share of the largest true value; infinite where it cannot be compared."""
        if self.largest is None:
            return float("inf")
        return self.largest / self.scale if self.scale else self.largest

    def table(self) -> dict[str, Any]:
        """As plain data; JSON has no infinity, so None."""
        return {**asdict(self), "relative": self.relative if np.isfinite(self.relative) else None}


def gap(value: Array, truth: Truth) -> Gap:
    """Compare a value with the true one, element by element in order: axes may be grouped otherwise."""
    wanted = truth.value
    if value.size != wanted.size:
        return Gap.infinite()
    value = value.reshape(wanted.shape)
    counted = np.ones(wanted.shape, bool) if truth.real is None else np.broadcast_to(truth.real, wanted.shape)
    if np.bool_ in {wanted.dtype, value.dtype}:
        return _exact(value != wanted, counted)
    if not np.issubdtype(wanted.dtype, np.floating):
        return _exact(value != wanted, counted, np.abs(value.astype(np.float64) - wanted))
    if truth.mask:
        opened = wanted > BLOCKED
        if ((value > BLOCKED) != opened)[counted].any():
            return Gap.infinite()
        counted = counted & opened
    return _float(value[counted].astype(np.float64), wanted[counted].astype(np.float64))


def _exact(different: Array, counted: Array, size: Array | None = None) -> Gap:
    size = different.astype(np.float64) if size is None else size
    worst = float(size[counted].max(initial=0))
    return Gap(worst, 0.0, worst)


def _float(value: Array, wanted: Array) -> Gap:
    if not np.isfinite(value).all():
        return Gap.infinite()
    difference, scale = np.abs(value - wanted), float(np.abs(wanted).max(initial=0))
    power = float(np.sqrt(np.mean(wanted**2))) if wanted.size else 0.0
    rms = float(np.sqrt(np.mean(difference**2))) if wanted.size else 0.0
    return Gap(float(difference.max(initial=0)), scale, rms / power if power else rms)
