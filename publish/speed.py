"""Speeds from the benchmark's results, where they were measured on exactly the files that are published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.canonical import read_json
from pipeline.errors import InputError
from pipeline.variants import model_file

RESULTS = Path("benchmarks", "bench.json")
BASE = "fp32"


@dataclass(frozen=True)
class Timing:
    """Tokens decoded per second, by variant, as a multiple of fp32's, and what that was measured with."""

    speeds: Mapping[str, float]
    length: int  # tokens before the ones timed
    threads: int
    processor: str


def timing(home: Path, digests: Mapping[str, str]) -> Timing | None:
    """Speeds of the files with these SHA-256 (by path in the repository); None unless fp32 and another were timed.

    Raises InputError when the results are not in the form that `benchmarks` gives them.
    """
    if not (home / RESULTS).is_file():
        return None
    try:
        return _timing(read_json(home / RESULTS), digests)
    except (LookupError, TypeError, AttributeError) as error:
        hint = "run: python -m benchmarks with this recipe, or remove the file, and publish without speeds"
        raise InputError(f"not the benchmark's results: {error!r}", where=home / RESULTS, hint=hint) from error


def _timing(results: Any, digests: Mapping[str, str]) -> Timing | None:
    scenario = next((s for s in results["scenarios"] if s["kind"] == "decode" and s["batch"] == 1), None)
    if scenario is None:
        return None
    rates = {
        entry["name"]: entry["speeds"][scenario["name"]]["tokens_per_s"]["median"]
        for entry in results["entries"]
        if entry["engine"] == "ours" and entry.get("sha256") == digests.get(model_file(entry["name"]), "")
    }
    if BASE not in rates or len(rates) == 1:
        return None
    speeds = {name: rate / rates[BASE] for name, rate in rates.items()}
    return Timing(speeds, scenario["length"], results["threads"], results["environment"]["processor"])
