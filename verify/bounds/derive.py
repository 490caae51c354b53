"""The figures of a recipe whose bounds are derived, and from what.

A bound that was set from what one machine measured holds that machine's kernels to account. These are computed from
number formats, sizes, and the range of logits and cache; docs/decisions/0022 compares them with what was measured on
several instruction sets. A test holds the recipes to them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context, Decimal

from pipeline.recipe.recipe import Recipe
from pipeline.typed import build
from verify.bounds import rounding
from verify.bounds.formats import Formats, formats_of
from verify.bounds.network import ROUNDINGS, Network, network_of
from verify.checks import divergence

DIGITS = 2  # of a bound; it is rounded up
OTHERS = "Others: "  # begins, in a reason, what is said of the variants whose bounds are measured


@dataclass(frozen=True)
class Derivation:
    """The bounds of one figure for the variants that they are derived for, and how."""

    bounds: Mapping[str, float]
    how: str

    def reason(self, stated: str, variants: Collection[str]) -> str:
        """Return the reason to state for a figure. It keeps what `stated` says, after OTHERS, of measured variants."""
        if set(variants) <= set(self.bounds):
            return f"Derived (verify/bounds): {self.how}."
        rest = stated.partition(OTHERS)[2] or stated
        return f"{', '.join(self.bounds)}: derived (verify/bounds), {self.how}. {OTHERS}{rest}"


Derivations = dict[tuple[str, str], Derivation]  # by check and figure


def derive(recipe: Recipe) -> Derivations:
    """Return what can be derived; nothing where the recipe does not state all sizes and ranges."""
    network = network_of(recipe)
    if network is None:
        return {}
    where = f"{recipe.path}: verify.divergence"
    asked = build(divergence.Settings, recipe.verify.settings.get("divergence", {}), where=where)
    scored = asked.chunks * (asked.chunk - asked.chunk // 2 - 1)
    known = formats_of(recipe)
    return {
        **_runs(network, known),
        **_divergences(network, scored),
        **_weights(network, known),
        **_twins(network, known),
    }


def _runs(network: Network, known: Mapping[str, Formats]) -> Derivations:
    """Two runs of one graph, and fp32 beside PyTorch."""
    exact = [name for name, own in known.items() if own.exact]
    logits, cached, sums = network.largest_logits(), network.largest_cached(), _sums(network)
    plain = (
        f"{sums}; compared in the graph without its roundings of activations. Dynamic int8 with one scale per tensor "
        "is off by hundreds of times that"
    )
    beside = (
        f"{sums}; a runtime beside onnxruntime on this machine, the same graph without its roundings of activations"
    )
    return {
        ("logits", "max_abs"): _derivation({"fp32": logits}, sums),
        ("logits", "batch_dependence"): _derivation(dict.fromkeys(known, logits), plain),
        ("logits", "on_demand"): _derivation(dict.fromkeys(known, logits), plain),
        ("logits", "unrounded_max_abs"): _derivation(dict.fromkeys(known, logits), beside),
        ("cache", "max_abs"): _derivation({"fp32": logits}, sums),
        ("cache", "self_max_abs"): _derivation(dict.fromkeys(exact, logits), sums),
        ("cache", "present_max_abs"): _derivation({"fp32": cached}, _cached_sums(network)),
    }


def _divergences(network: Network, scored: int) -> Derivations:
    """fp32's: half the variance, over a token's distribution, of the logits' differences."""
    mean, worst = network.typical_logits() ** 2 / 2, network.largest_divergence(scored)
    about_mean = "half the variance of the logits' differences whose largest is bounded by logits.max_abs"
    about_worst = (
        f"the largest of {scored}, of the distribution that makes most of a difference: two equally likely tokens"
    )
    about_ratio = f"the mean of {scored} independent differences of log-probabilities, each one of two logits'"
    return {
        ("divergence", "mean_kld"): _derivation({"fp32": mean}, about_mean),
        ("divergence", "p999_kld"): _derivation({"fp32": worst}, about_worst),
        ("divergence", "ln_ppl_ratio"): _derivation({"fp32": network.largest_mean(scored)}, about_ratio),
    }


def _weights(network: Network, known: Mapping[str, Formats]) -> Derivations:
    """One module alone. A float16 scale is multiplied and rounded where it is looked up, and where it is the head's."""
    stored = {name: rounding.FLOAT16 if own.float16 else 0.0 for name, own in known.items()}
    function = {
        name: 4 * rounding.FLOAT16 if own.float16_scales else network.of_module() for name, own in known.items()
    }
    about_stored = "numbers are the reference's own; float16 rounds them by half a unit in the last place, 2^-11"
    about_function = (
        f"{ROUNDINGS} roundings of float32 and a norm's sum of {network.hidden} squares, relative to the numbers added "
        "up; with float16 scales, two roundings to float16 each of a tied head and its lookup. The exact GELU in the "
        "place of the approximation is off by 2e-4"
    )
    return {
        ("weights", "value_error"): _derivation(stored, about_stored),
        ("weights", "function_error"): _derivation(function, about_function),
    }


def _twins(network: Network, known: Mapping[str, Formats]) -> Derivations:
    """A file beside one whose weights, or scales, are another program's rounding of the same numbers."""
    exact = {name: own.last_bit for name, own in known.items() if own.exact}
    float_cache = {name: own.last_bit for name, own in known.items() if not (own.body or own.float16)}
    modules = {
        name: 6 * rounding.FLOAT16 if own.float16_scales else 2 * network.of_module() + 2 * rounding.FLOAT32
        for name, own in known.items()
    }
    about_modules = (
        "twice weights.function_error and the last bit of a scale, 2^-23; with float16 scales that bit, 2^-10, and two "
        "roundings to float16 on each side"
    )
    moved = "and every scale (without scales: every float32 weight) moved by its last bit"
    sums = f"{_sums(network)}, {moved}"
    plain = f"{sums}; in the graph without its roundings of activations"
    return {
        ("twin", "logits_max_abs"): _derivation({n: network.largest_logits(bit) for n, bit in exact.items()}, sums),
        ("twin", "logits_rms"): _derivation(
            {n: network.typical_logits(bit) for n, bit in exact.items()}, "the deviation behind twin.logits_max_abs"
        ),
        ("twin", "present_max_abs"): _derivation(
            {n: network.largest_cached(bit) for n, bit in float_cache.items()}, f"{_cached_sums(network)}, {moved}"
        ),
        ("twin", "float_max_abs"): _derivation(
            {name: network.largest_logits(own.last_bit) for name, own in known.items()}, plain
        ),
        ("twin", "modules_error"): _derivation(modules, about_modules),
    }


def rounded_up(value: float) -> float:
    """Return a bound with DIGITS significant digits, never less than the value."""
    return float(Decimal(value).normalize(Context(prec=DIGITS, rounding=ROUND_CEILING)))


def _derivation(bounds: Mapping[str, float], how: str) -> Derivation:
    return Derivation({name: rounded_up(value) for name, value in bounds.items()}, how)


def _sums(network: Network) -> str:
    chance = f"but for a chance of {rounding.CHANCE:g}"
    return f"order of float32 sums {network.about}, logits up to {network.logits_range:g}, {chance}"


def _cached_sums(network: Network) -> str:
    chance = f"but for a chance of {rounding.CHANCE:g}"
    return f"order of float32 sums {network.about}, keys and values up to {network.cache_range:g}, {chance}"
