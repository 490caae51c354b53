"""Rotary positions: what a config says of them, and the angle by which each pair of a head's numbers turns a position.

A config states them in either of two forms: `rope_theta` with a table `rope_scaling` (transformers 4), or one table
`rope_parameters` with all (transformers 5). Where both are there, the first table wins, as in transformers 5.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from model.architecture import wrong_key
from model.config_checks import is_positive, positive

Array = np.ndarray[Any, np.dtype[np.float32]]
THETA = 10000.0
LIMIT = 2**40  # no base, factor or length comes near
# Kind -> the numbers that it needs, and those that it may state.
KINDS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "default": ((), ()),
    "linear": (("factor",), ()),
    "llama3": (("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"), ()),
    "yarn": (
        ("factor", "original_max_position_embeddings"),
        ("attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim"),
    ),
}


def parameters(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config's rotary positions in the form of transformers 5, nothing checked but that tables are tables."""
    table = config.get(_place(config)) or {}
    stated = {key: value for key, value in table.items() if value is not None} if isinstance(table, Mapping) else {}
    kind = stated.get("rope_type", stated.get("type", "default"))
    found = {"rope_theta": config.get("rope_theta", THETA), **stated, "rope_type": kind}
    if kind in ("llama3", "yarn"):
        length = found.get("original_max_position_embeddings", config["max_position_embeddings"])
        found["original_max_position_embeddings"] = config.get("original_max_position_embeddings", length)
    if kind == "yarn" and "factor" not in found and is_positive(found["original_max_position_embeddings"], LIMIT):
        found["factor"] = config["max_position_embeddings"] / found["original_max_position_embeddings"]
    return found


def check(config: Mapping[str, Any], where: object) -> None:
    """Raise InputError, naming key and value, for rotary positions that are not written here or make no sense."""
    place = _place(config)
    if not isinstance(config.get(place), Mapping | None):
        raise wrong_key(where, place, config[place], "a table, or absent")
    found = parameters(config)
    kind = found["rope_type"]
    if not isinstance(kind, str) or kind not in KINDS:
        hint = f"{', '.join(KINDS)}: those whose angles follow from the positions alone are written"
        raise wrong_key(where, f"{place}.rope_type", kind, hint)
    needed, further = KINDS[kind]
    # From what lengths and bases are to what may follow from them, so that a message names what was stated.
    for key in ("rope_theta", *reversed(needed), *(key for key in further if key in found)):
        positive(key if key in config else f"{place}.{key}", found.get(key), where, LIMIT)
    if kind == "llama3" and found["low_freq_factor"] >= found["high_freq_factor"]:
        raise wrong_key(where, f"{place}.low_freq_factor", found["low_freq_factor"], "less than high_freq_factor")
    if not isinstance(found.get("truncate", True), bool):
        raise wrong_key(where, f"{place}.truncate", found["truncate"], "true or false")
    share = found.get("partial_rotary_factor", config.get("partial_rotary_factor", 1))
    if share != 1:
        raise wrong_key(where, "partial_rotary_factor", share, "1 or absent: the whole head is turned")


def frequencies(config: Mapping[str, Any], width: int) -> tuple[Array, float]:
    """Return each pair's angle at position 1, float32 [width / 2], and what cosine and sine are scaled by.

    Powers are taken in float64 and rounded once: so PyTorch's float32 has them, NumPy's is off by a last bit.
    """
    found = parameters(config)
    exponents = (np.arange(0, width, 2, dtype=np.float32) / np.float32(width)).astype(np.float64)
    periods = (np.float64(found["rope_theta"]) ** exponents).astype(np.float32)
    plain: Array = np.float32(1) / periods
    kind = found["rope_type"]
    if kind == "linear":
        return plain / np.float32(found["factor"]), 1.0
    if kind == "llama3":
        return _llama3(plain, found), 1.0
    if kind == "yarn":
        return _yarn(periods, found, width), _yarn_scale(found)
    return plain, 1.0


def _llama3(plain: Array, found: Mapping[str, Any]) -> Array:
    """Long waves are stretched by the factor, short ones are not, between them it goes over smoothly."""
    length, low, high = (
        found[key] for key in ("original_max_position_embeddings", "low_freq_factor", "high_freq_factor")
    )
    factor, waves = np.float32(found["factor"]), np.float32(2 * math.pi) / plain
    stretched = np.where(waves > length / low, plain / factor, plain)
    smooth = (np.float32(length) / waves - np.float32(low)) / np.float32(high - low)
    between = (1 - smooth) * stretched / factor + smooth * stretched
    medium = (waves >= length / high) & (waves <= length / low)
    return np.where(medium, between, stretched).astype(np.float32)


def _yarn(periods: Array, found: Mapping[str, Any], width: int) -> Array:
    """Pairs that turn often within the original length keep their frequency, those that turn seldom are stretched."""
    low, high = (
        width
        * math.log(found["original_max_position_embeddings"] / (turns * 2 * math.pi))
        / (2 * math.log(found["rope_theta"]))
        for turns in (found.get("beta_fast", 32), found.get("beta_slow", 1))
    )
    if found.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, width - 1)
    steps = (np.arange(width // 2, dtype=np.float32) - np.float32(low)) / np.float32(high - low or 0.001)
    kept = 1 - np.clip(steps, 0, 1)
    mixed = np.float32(1) / (np.float32(found["factor"]) * periods) * (1 - kept) + np.float32(1) / periods * kept
    made: Array = mixed.astype(np.float32)
    return made


def _yarn_scale(found: Mapping[str, Any]) -> float:
    if "attention_factor" in found:
        return float(found["attention_factor"])

    def scale(weight: float) -> float:
        factor = found["factor"]
        return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0

    if "mscale" in found and "mscale_all_dim" in found:
        return scale(found["mscale"]) / scale(found["mscale_all_dim"])
    return scale(1)


def _place(config: Mapping[str, Any]) -> str:
    """Return which of the two tables of a config counts."""
    return "rope_scaling" if config.get("rope_scaling") else "rope_parameters"
