"""CTranslate2's files, by its own converter for transformers' checkpoints."""

from __future__ import annotations

from pathlib import Path

BASE: str | None = None
TOOLS = ("ctranslate2", "transformers", "torch")


def make(name: str, source: Path, base: Path, target: Path) -> None:  # noqa: ARG001  # all makers have one signature
    """Write `model.bin` and `vocabulary.json` with the weights stored as `name`."""
    from ctranslate2.converters import TransformersConverter

    TransformersConverter(str(source)).convert(str(target), quantization=name, force=True)
