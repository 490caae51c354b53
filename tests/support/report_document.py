"""A report document made by hand: figures, failures, infinities and texts of any kind, without running a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from verify.check import Measure
from verify.report import history
from verify.report.document import document
from verify.verdict import Judged, Result

EDGES = [10.0**step for step in range(-8, 1)]


def judged(name: str, value: float, bound: float | None, *, upper: bool = True, **more: Any) -> Judged:
    """A measure held to `bound` with the judge's own rule; None shows it only."""
    measure = Measure(name, value, 100, judged=bound is not None, **more)
    holds = bound is None or (value <= bound if upper else value >= bound)
    return Judged(measure, bound, upper, holds and value not in (float("inf"), float("-inf")), f"{name} has a reason")


def logits(variant: str, level: str, worst: float, bound: float = 1.0) -> Result:
    """A result of the check `logits` with all of its series."""
    series = {
        "by_position": {"width": 4, "max": [worst / 2, worst, float("inf"), None]},
        "by_rank": {"ends": [1, 10, 50], "max": [worst / 3, worst / 2, worst], "mean": [worst / 9] * 3, "positions": 9},
        "near_ties": {"limit": worst, "choices": [{"kind": "teacher-forced", "margin": worst / 2}]},
    }
    return Result(variant, "logits", level, (judged("max_abs", worst, bound, unit="logit"),), series=series)


def divergence(variant: str, mean: float, error: float = 1e-6, bound: float = 1e-3) -> Result:
    """A result of the check `divergence` with its histogram."""
    series = {"histogram": {"edges": EDGES, "counts": [0, 1, 5, 20, 3, 1, 0, 0], "not_finite": 0}}
    measures = (
        judged("mean_kld", mean, bound, error=error),
        judged("same_top", 0.99, 0.98, upper=False),
        judged("perplexity", 41.5, None),
    )
    return Result(variant, "divergence", "any", measures, series=series)


def generation(variant: str, candidate: str | None = None) -> Result:
    """A result of the check `generation`; with `candidate`, a text that differs at its second token."""
    text = {"case": "greedy batch", "row": 0, "tokens": 4, "prompt": "Once", "step": None, "shared": " upon a time"}
    if candidate is not None:
        text |= {"step": 1, "shared": " upon", "reference": " a time", "candidate": candidate}
    series = {
        "near_ties": {"limit": 0.5, "choices": [] if candidate is None else [{"kind": "greedy", "margin": 0.25}]},
        "texts": [text],
    }
    return Result(variant, "generation", "enable_all", (judged("greedy_near_ties", 0.01, 0.05),), series=series)


def modules(variant: str, error: float) -> dict[str, Any]:
    """Modules of one layer, each with that much error of its own."""
    names = ("embedding", "layer 0 attention", "layer 0 MLP", "final norm", "head")
    rows = [{"name": name, "error": error * (at + 1), "own": error, "reason": None} for at, name in enumerate(names)]
    return {"variant": variant, "reason": None, "modules": rows}


ABSENT = {"what": "tokenizer", "reason": "no tokenizer lies beside the candidate", "required": False, "part": False}


def make(results: Sequence[Result], **header: Any) -> dict[str, Any]:
    """The document of these results; `header` replaces parts of a plain one."""
    variants = list(dict.fromkeys(result.variant for result in results))
    plain: Mapping[str, Any] = {
        "name": "made",
        "recipe": "0" * 64,
        "source": {"origin": "directory", "repository": "some/model", "commit": None, "digest": "1" * 64},
        "complete": True,
        "not_judged": [],
        "not_run": [],
        "environment": {
            "python": "3.11.0",
            "platform": "Linux x86_64",
            "packages": {"onnxruntime": "1.0"},
            "processor": "one",
            "processor_flags": ["avx"],
            "instruction_sets": ["AVX2"],
            "cores": 2,
        },
        "notices": [],
        "history": None,
        "explanations": [],
        "layers": {
            "tokens": 32,
            "variants": [modules(variant, 1e-3 * (place + 1)) for place, variant in enumerate(variants)],
        },
        "reproduce": {"commands": ["python -m verify recipes/made.toml"], "code": "2" * 64, "parents": {}},
        "candidates": [
            {"variant": variant, "file": "model.onnx", "bytes": 1000 * (8 - place), "sha256": f"{place:064x}"}
            for place, variant in enumerate(variants)
        ],
        "seed": 0,
        "settings": {"logits": {"lengths": [1, 2]}},
        "text": {"sha256": "3" * 64, "tokens": 1000},
        "prompts": None,
    }
    return document(results, {**plain, **header})


def run(report: Mapping[str, Any], *, digest: str = "r", making: str = "m") -> history.Run:
    """The document as a line of history."""
    return history.run_of(report, digest, making)
