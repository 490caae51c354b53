"""Hold what a benchmark found: bench.json is this, and the table and the plots are made from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.scenario import Scenario
from benchmarks.schedule import Spread, spread
from verify.check import Partial, standard_error


@dataclass(frozen=True)
class FileFidelity:
    """Divergence from the reference over `tokens` scored tokens: nats, and the share of equal top tokens."""

    mean_kld: float
    mean_kld_error: float
    p999_kld: float
    same_top: float
    tokens: int


@dataclass(frozen=True)
class Speed:
    """Tokens per second over the whole batch, and as a share of a limit.

    The limit is what the memory's bandwidth allows a decoding, and the rate of float32 products a prefill: an engine
    that multiplies with int8 may be beyond the latter.
    """

    tokens_per_s: Spread
    of_limit: float


@dataclass(frozen=True)
class EngineEntry:
    """One engine in one configuration. Memory is the process's peak, its libraries included."""

    engine: str
    name: str
    size: int  # bytes on disk
    read: int  # bytes of weights per decoded token
    load_s: float
    peak: int  # bytes, after every scenario of one row
    peak_batch: int  # bytes, after every scenario
    speeds: Mapping[str, Speed]
    fidelity: FileFidelity | None
    sha256: str | None = None  # of the file measured, where it is one file: whose figures these are

    @property
    def key(self) -> str:
        """Its name in the results, such as "llamacpp/Q8_0"."""
        return f"{self.engine}/{self.name}"


@dataclass(frozen=True)
class Absent:
    """A configuration without figures: why, and what to do about it."""

    key: str
    reason: str
    hint: str


@dataclass(frozen=True)
class Results:
    """Everything that one run measured."""

    name: str
    parameters: int
    rounds: int
    threads: int
    scenarios: Sequence[Scenario]
    bandwidth: Spread  # bytes per second
    arithmetic: Spread  # float32 operations per second
    entries: Sequence[EngineEntry]
    absent: Sequence[Absent]
    restless: int  # measurements that began although some other engine still used the processor
    environment: Mapping[str, Any] = field(default_factory=dict)

    def entry(self, key: str) -> EngineEntry | None:
        """The configuration of that name, or None if it is absent."""
        return next((entry for entry in self.entries if entry.key == key), None)


def speed(scenario: Scenario, seconds: Sequence[float], limit_s: float) -> Speed:
    """Speed from the seconds of each round; `limit_s` is what one call of the engine takes at least."""
    rates = spread([scenario.tokens / value for value in seconds])
    return Speed(rates, limit_s * rates.median / scenario.call_tokens)


def bytes_per_step(scenario: Scenario, read: int, row: int) -> float:
    """Bytes that one decoding step reads: the weights once, and every row's cache of `row` bytes per position."""
    return read + scenario.batch * scenario.mean_past * row


def fidelity(partials: Sequence[Partial]) -> FileFidelity:
    """Figures over all scored tokens; a value that is not finite makes the divergence infinite, never small."""
    kld = np.concatenate([partial["kld"] for partial in partials])
    same = np.concatenate([partial["same"] for partial in partials])
    if not np.isfinite(kld).all():
        return FileFidelity(float("inf"), 0.0, float("inf"), float(same.mean()), len(kld))
    return FileFidelity(
        float(kld.mean()), standard_error(kld), float(np.percentile(kld, 99.9)), float(same.mean()), len(kld)
    )
