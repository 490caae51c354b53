"""The targets that the project set itself: a name, a formula on the results, a bound. Data, not code paths.

A formula gives None when a figure it needs was not measured: the target is then "not measured", never reached.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.results import Entry, Results

Formula = Callable[[Results], float | None]
FEWEST_BITS, MOST_BITS = 3.5, 9.0  # file bits per parameter of what is called 4 to 8 bits, with its scales


@dataclass(frozen=True)
class Target:
    """`formula` must be at least (or, with `upper`, at most) `bound`."""

    name: str
    formula: Formula
    bound: float
    upper: bool = False


@dataclass(frozen=True)
class Outcome:
    """A target held against the results; `reached` is None when it was not measured."""

    name: str
    bound: float
    upper: bool
    measured: float | None
    reached: bool | None


def evaluate(results: Results) -> list[Outcome]:
    """Every target against the results, in order."""
    return [_outcome(target, target.formula(results)) for target in TARGETS]


def _outcome(target: Target, value: float | None) -> Outcome:
    reached = None if value is None else value <= target.bound if target.upper else value >= target.bound
    return Outcome(target.name, target.bound, target.upper, value, reached)


def faster(scenario: str, ours: str, *peers: str) -> Formula:
    """Our speed over the fastest of the peers'; None unless all of them were measured."""

    def formula(results: Results) -> float | None:
        speeds = [_speed(results, key, scenario) for key in (ours, *peers)]
        known = [value for value in speeds if value is not None]
        return known[0] / max(known[1:]) if len(known) == len(speeds) else None

    return formula


def of_limit(scenario: str, key: str) -> Formula:
    """Decode speed over what the memory's bandwidth allows."""

    def formula(results: Results) -> float | None:
        entry = results.entry(key)
        return entry.speeds[scenario].of_limit if entry is not None and scenario in entry.speeds else None

    return formula


def kld(ours: str, peer: str) -> Formula:
    """Our mean divergence over the peer's."""

    def formula(results: Results) -> float | None:
        return _ratio(_kld(results.entry(ours)), _kld(results.entry(peer)))

    return formula


def size(ours: str, peer: str) -> Formula:
    """Our file's size over the peer's."""

    def formula(results: Results) -> float | None:
        mine, other = results.entry(ours), results.entry(peer)
        return mine.size / other.size if mine is not None and other is not None else None

    return formula


def kld_at_size_of(peer: str) -> Formula:
    """The least mean divergence among our files no larger than the peer's, over the peer's."""

    def formula(results: Results) -> float | None:
        other = results.entry(peer)
        return None if other is None else _ratio(_best_within(results, other.size), _kld(other))

    return formula


def bytes_per_parameter(key: str) -> Formula:
    """A file's bytes per parameter."""

    def formula(results: Results) -> float | None:
        entry = results.entry(key)
        return entry.size / results.parameters if entry is not None else None

    return formula


def smallest(results: Results) -> float | None:
    """Bytes per parameter of our smallest file."""
    sizes = [entry.size for entry in results.entries if entry.engine == "ours"]
    return min(sizes) / results.parameters if sizes else None


def peers_below_frontier(results: Results) -> float | None:
    """How many peers' points of 4 to 8 bits none of our files is at least as small and at least as faithful as."""
    peers = [entry for entry in results.entries if entry.engine != "ours" and _quantized(entry, results.parameters)]
    if not peers or not any(entry.engine == "ours" for entry in results.entries):
        return None
    below = 0
    for peer in peers:
        ours, theirs = _best_within(results, peer.size), _kld(peer)
        below += theirs is not None and (ours is None or ours > theirs)
    return float(below)


def cost(name: str) -> Formula:
    """A figure that `python -m benchmarks.cost` has left beside the results."""
    return lambda results: results.cost.get(name)


def _quantized(entry: Entry, parameters: int) -> bool:
    return FEWEST_BITS <= 8 * entry.size / parameters <= MOST_BITS


def _best_within(results: Results, limit: int) -> float | None:
    known = [_kld(entry) for entry in results.entries if entry.engine == "ours" and entry.size <= limit]
    return min((value for value in known if value is not None), default=None)


def _speed(results: Results, key: str, scenario: str) -> float | None:
    entry = results.entry(key)
    return entry.speeds[scenario].tokens_per_s.median if entry is not None and scenario in entry.speeds else None


def _kld(entry: Entry | None) -> float | None:
    return entry.fidelity.mean_kld if entry is not None and entry.fidelity is not None else None


def _ratio(ours: float | None, theirs: float | None) -> float | None:
    return ours / theirs if ours is not None and theirs else None


def _prefill(length: int) -> Sequence[Target]:
    scenario = f"prefill-{length}"
    return (
        Target(f"prefill {length} fp32, over stock", faster(scenario, "ours/fp32", "stock/fp32"), 1.5),
        Target(f"prefill {length} fp32, over llama.cpp f32", faster(scenario, "ours/fp32", "llamacpp/f32"), 1.6),
        Target(f"prefill {length} q8, over llama.cpp Q8_0", faster(scenario, "ours/q8", "llamacpp/Q8_0"), 1.8),
        Target(f"prefill {length} q4, over llama.cpp Q4_K_M", faster(scenario, "ours/q4", "llamacpp/Q4_K_M"), 1.2),
    )


TARGETS: tuple[Target, ...] = (
    Target("decode fp32, of the bandwidth limit", of_limit("decode-64", "ours/fp32"), 0.9),
    Target("decode fp32, over stock", faster("decode-64", "ours/fp32", "stock/fp32"), 1.3),
    Target("decode fp32, over llama.cpp f32", faster("decode-64", "ours/fp32", "llamacpp/f32"), 1.1),
    Target("decode q8, over llama.cpp Q8_0", faster("decode-64", "ours/q8", "llamacpp/Q8_0"), 1.2),
    Target("decode q8, over CTranslate2 int8", faster("decode-64", "ours/q8", "ctranslate2/int8"), 2.5),
    Target("decode q8, over stock q8", faster("decode-64", "ours/q8", "stock/q8"), 2.5),
    Target("mean KLD q8, over llama.cpp Q8_0", kld("ours/q8", "llamacpp/Q8_0"), 1.0, upper=True),
    Target("file q8, over llama.cpp Q8_0", size("ours/q8", "llamacpp/Q8_0"), 1.0, upper=True),
    Target(
        "decode q4, over the better of llama.cpp Q4_0 and Q4_K_M",
        faster("decode-64", "ours/q4", "llamacpp/Q4_0", "llamacpp/Q4_K_M"),
        1.2,
    ),
    Target("mean KLD at the size of llama.cpp Q4_0, over its", kld_at_size_of("llamacpp/Q4_0"), 1.0, upper=True),
    Target("mean KLD at the size of llama.cpp Q4_K_M, over its", kld_at_size_of("llamacpp/Q4_K_M"), 1.0, upper=True),
    *_prefill(128),
    *_prefill(768),
    Target("peers' points below our frontier, 4 to 8 bits", peers_below_frontier, 0, upper=True),
    Target("bytes per parameter fp32", bytes_per_parameter("ours/fp32"), 4.01, upper=True),
    Target("bytes per parameter fp16", bytes_per_parameter("ours/fp16"), 2.01, upper=True),
    Target("bytes per parameter, smallest 4-bit file", smallest, 0.60, upper=True),
    Target("convert, wall over optimum-cli", cost("convert_wall"), 0.6, upper=True),
    Target("convert, peak memory over optimum-cli", cost("convert_peak"), 0.7, upper=True),
    Target("verify, wall over the PyTorch reference pass", cost("verify_wall"), 2.5, upper=True),
)
