"""Optimum: ORTModelForCausalLM on the directory as it is, with transformers' own generate(), in its own environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from verify.checks.tokenizer import beside
from verify.interop.questions import SURROGATE
from verify.interop.runtime import Bounds, Missing, Running
from verify.runtimes.optimum import environment, loadable
from verify.sandbox.isolated import isolated

PARTS = ("texts", "strings", "sampling", "beams", "lengths")
UNREADABLE = SURROGATE.pattern  # half a surrogate pair is no text in Python's tokenizers
IN_PLACE = False
SLOW = False


@dataclass(frozen=True)
class Settings:
    """None."""

    def check(self, where: str) -> None:
        """Nothing to refuse."""


def missing(settings: Settings) -> Missing | None:
    """Its environment."""
    return None if environment.present() else Missing("Optimum's environment", environment.COMMAND, "is not set up")


def unsupported(graph: Path, settings: Settings) -> Mapping[str, str]:
    """All of it, where a head has another width than the loader takes."""
    home = beside(graph)
    why = None if home is None else loadable.reason(home / "config.json")
    return {} if why is None else {"any": why}


def version(settings: Settings) -> str:
    """Of the loader and of the libraries that it generates with."""
    names = ("optimum", "optimum-onnx", "transformers", "onnxruntime")
    return ", ".join(f"{name} {found}" for name, found in environment.versions(*names).items())


def running(settings: Settings, bounds: Bounds) -> Running:
    """See verify/interop/runtime.py."""
    return isolated("verify.runtimes.optimum.answering", settings, bounds, environment.Optimum())
