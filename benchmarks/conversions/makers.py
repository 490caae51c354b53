"""Other programs' conversions of a checkpoint: each maker writes `model.onnx` into a new directory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.engines.genai import prepare as genai
from benchmarks.engines.stock import prepare

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
        target.mkdir(parents=True)
        genai.make(precision, source, Path(), target)

    return make


MAKERS: Mapping[str, Maker] = {
    "Optimum": _stock("fp32"),
    "Optimum, float16": _stock("fp16"),
    "Optimum, dynamic int8": _stock("q8"),
    "Optimum, MatMulNBits": _stock("q4"),
    "genai's builder": _genai("fp32"),
    "genai's builder, int4": _genai("int4"),
}
