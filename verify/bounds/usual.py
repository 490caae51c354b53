"""Usual tolerances, for a file that no recipe was written for: what conversions of its width come to, with room.

Where a bound can be derived (verify/bounds/derive.py) it is. These are for the rest: shares and divergences as they
are; logits and cache in parts of the reference's largest, because an error of 0.5 is nothing where logits reach 300.
They are some three to fifty times what this project's own files come to (docs/decisions/0031): less is not seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.canonical import toml_text
from pipeline.recipe.recipe import Recipe
from verify.bounds import rounding
from verify.bounds.derive import derive
from verify.bounds.tables import basis_lines

FLOAT32, FLOAT16, EIGHT, FOUR, BOTH = "float32", "float16", "8 bits", "4 bits", "4 bits and float16"
WIDTHS: Mapping[str, str] = {
    "fp32": FLOAT32,
    "fp16": FLOAT16,
    "q8": EIGHT,
    "int8": EIGHT,
    "uint8": EIGHT,
    "q4": FOUR,
    "q4f16": BOTH,
    "q2": FOUR,
    "q2f16": BOTH,
    "bnb4": FOUR,
}
LOGITS, CACHE = "logits_range", "cache_range"  # units of a bound: keys of [tolerances]


@dataclass(frozen=True)
class Usual:
    """The bounds of one figure by width, in parts of a range where `unit` names one, and why."""

    why: str
    float32: float
    float16: float
    eight: float
    four: float
    both: float | None = None  # of 4 bits and float16, where it is not that of 4 bits
    unit: str | None = None
    least: bool = False  # bounded below

    def bound(self, recipe: Recipe, variant: str) -> float:
        """Return the bound for a variant."""
        size = 1.0 if self.unit is None else getattr(recipe.basis, self.unit)
        both = self.four if self.both is None else self.both
        by_width = {FLOAT32: self.float32, FLOAT16: self.float16, EIGHT: self.eight, FOUR: self.four, BOTH: both}
        return float(by_width[WIDTHS[variant]] * size)


_ERRORS = "the largest of millions of differences from PyTorch, in parts of the largest logit"
_OWN = "one file run in two ways, whose activations round to int8 or float16 otherwise; in parts of the largest logit"
_TEXTS = "share of choices of another token although the reference was undecided"
# 0: it is derived.
USUAL: Mapping[tuple[str, str], Usual] = {
    ("structure", "bytes_per_parameter"): Usual("every weight twice, in float32", 8.5, 8.5, 8.5, 8.5),
    ("logits", "max_abs"): Usual(_ERRORS, 0, 0.005, 0.1, 0.25, unit=LOGITS),
    ("logits", "near_ties"): Usual(_TEXTS, 0.002, 0.01, 0.05, 0.25),
    ("cache", "max_abs"): Usual(_ERRORS, 0, 0.005, 0.1, 0.25, unit=LOGITS),
    ("cache", "self_max_abs"): Usual(_OWN, 0, 0.005, 0.05, 0.25, unit=LOGITS),
    ("cache", "present_max_abs"): Usual(
        "the largest difference of keys and values, in parts of the largest", 0, 0.005, 0.1, 0.5, unit=CACHE
    ),
    ("generation", "greedy_near_ties"): Usual(_TEXTS, 0, 0.05, 0.1, 0.5),
    ("generation", "sampling_near_ties"): Usual(_TEXTS, 0.01, 0.05, 0.1, 0.5),
    ("generation", "beam_near_ties"): Usual("share of four searches that end in another text", 0, 0.25, 0.5, 1),
    ("divergence", "mean_kld"): Usual("nats a token", 0, 1e-5, 0.01, 0.1),
    ("divergence", "p999_kld"): Usual("nats, of one token in a thousand", 0, 1e-3, 1, 10),
    ("divergence", "same_top"): Usual(
        "share of positions with the same top token", 0.999, 0.995, 0.95, 0.8, least=True
    ),
    ("divergence", "ln_ppl_ratio"): Usual("logarithm of the ratio of perplexities", 0, 1e-3, 0.02, 0.2),
    ("weights", "value_error"): Usual(
        "relative, of the worst number; below 6e-5 float16 has fewer digits, and none below 3e-8", 0, 1, 0, 0, both=1
    ),
    ("weights", "function_error"): Usual(
        "a module alone, with eight roundings to float16 in a graph of that type, or scales that are multiplied later",
        0,
        8 * rounding.FLOAT16,
        1e-5,
        1e-5,
        both=8 * rounding.FLOAT16,
    ),
    ("weights", "block_error"): Usual("relative error of the worst block", 1e-6, 1e-3, 0.2, 0.4),
    ("weights", "block_scale"): Usual("its best factor's distance from 1, in standard errors", 0.5, 0.5, 10, 10),
    ("weights", "tensor_error"): Usual("relative error of the worst tensor", 1e-7, 1e-3, 0.03, 0.2),
    ("weights", "tensor_scale"): Usual("its best factor's distance from 1", 1e-7, 1e-4, 2e-3, 0.03),
}


def tables(recipe: Recipe) -> str:
    """Return [tolerances] as TOML: every figure that is usual or derived, the larger of both where it is both.

    The recipe must state its sizes and, as its basis, the reference's ranges.
    """
    derived = derive(recipe)
    lines = ["[tolerances]", *basis_lines(recipe.basis), ""]
    for check, figure in dict.fromkeys([*USUAL, *derived]):
        if check not in recipe.verify.checks:
            continue
        usual, own = USUAL.get((check, figure)), derived.get((check, figure))
        about = [f"usual, not measured: {usual.why}"] if usual is not None else []
        about += [f"derived (verify/bounds): {own.how}"] if own is not None else []
        lines += [f"[tolerances.{check}.{figure}]", f"reason = {toml_text('; '.join(about))}"]
        for variant in recipe.files:
            bound = max(
                0.0 if usual is None else usual.bound(recipe, variant),
                0.0 if own is None else own.bounds.get(variant, 0.0),
            )
            side, nothing = ("min", 1) if usual is not None and usual.least else ("max", 0)
            lines.append(f"{variant} = {{ {side} = {bound!r}, measured = {nothing} }}")
        lines.append("")
    return "\n".join(lines)
