"""Other programs' conversions of a checkpoint: each maker writes `model.onnx` into a new directory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.engines.stock import prepare
from pipeline.errors import UnavailableError

Maker = Callable[[Path, Path], None]  # of a checkpoint's directory, into another


def _stock(name: str) -> Maker:
    def make(source: Path, target: Path) -> None:
        """Optimum's export, and what the Transformers.js script makes of it."""
        target.mkdir(parents=True)
        if name == "fp32":
            prepare.make(name, source, Path(), target)
            return
        plain = target / "fp32"
        plain.mkdir()
        prepare.make("fp32", source, Path(), plain)
        prepare.make(name, source, plain, target)

    return make


def _genai(precision: str) -> Maker:
    def make(source: Path, target: Path) -> None:
        """onnxruntime-genai's builder, for processors."""
        words = ["-i", source, "-o", target, "-p", precision, "-e", "cpu", "-c", target / "cache"]
        command = [sys.executable, "-m", "onnxruntime_genai.models.builder", *map(str, words)]
        told = subprocess.run(
            command, env={**os.environ, "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, check=False
        )
        if told.returncode != 0:
            hint = "see what it says; make setup installs onnxruntime-genai"
            last = (told.stderr.strip() or "it said nothing").splitlines()[-1].replace(str(source), source.name)
            raise UnavailableError(f"the builder failed: {last}", where=" ".join(command[1:4]), hint=hint)

    return make


MAKERS: Mapping[str, Maker] = {
    "Optimum": _stock("fp32"),
    "Optimum, float16": _stock("fp16"),
    "Optimum, dynamic int8": _stock("q8"),
    "Optimum, MatMulNBits": _stock("q4"),
    "genai's builder": _genai("fp32"),
    "genai's builder, int4": _genai("int4"),
}
