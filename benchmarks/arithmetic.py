"""Rate of float32 products, the limit of prefill in float32: every weight meets every token."""

from __future__ import annotations

import time

import numpy as np

from benchmarks.scenario import Scenario
from model.contract import Dimensions

SIDE = 2048  # far beyond what starting the threads costs
PASSES = 4


class Products:
    """Two square matrices that numpy's BLAS multiplies, on as many threads as it takes by itself: one per core."""

    def __init__(self) -> None:
        self._matrix = np.random.default_rng(0).standard_normal((SIDE, SIDE), np.float32)
        self._product = np.empty_like(self._matrix)

    def rate(self) -> float:
        """Float32 operations per second, product and sum counted as two; the best of a few: it is a limit."""
        return max(self._pass() for _ in range(PASSES))

    def _pass(self) -> float:
        begin = time.perf_counter()
        np.matmul(self._matrix, self._matrix, out=self._product)
        return 2 * SIDE**3 / (time.perf_counter() - begin)


def operations(scenario: Scenario, dims: Dimensions, tables: int) -> float:
    """Float32 operations that one pass of a prefill cannot do without, over the whole batch.

    Two for each weight of the layers and each token, for each weight of the head and each position whose logits are
    wanted, and for each number of the keys and values that a token may look at. `tables` weights are looked up or are
    the head's.
    """
    body = dims.parameters - tables
    kept = scenario.length if scenario.every else 1
    looked_at = 2 * dims.layers * dims.heads * dims.head_dim * scenario.length * (scenario.length + 1) / 2
    return scenario.batch * 2 * (body * scenario.length + dims.vocabulary * dims.hidden * kept + looked_at)
