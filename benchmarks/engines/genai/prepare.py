"""The graphs of onnxruntime-genai's builder, as its users make them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from pipeline.errors import UnavailableError

BASE: str | None = None
TOOLS = ("onnxruntime-genai", "transformers", "torch", "onnx-ir")


def make(name: str, source: Path, base: Path, target: Path) -> None:  # noqa: ARG001  # all makers have one signature
    """Write `model.onnx`, its data, genai_config.json and the tokenizer's files, with weights stored as `name`.

    Raises UnavailableError for a model that the builder does not take.
    """
    with tempfile.TemporaryDirectory() as cache:
        words = ["-i", source, "-o", target, "-p", name, "-e", "cpu", "-c", cache]
        command = [sys.executable, "-m", "onnxruntime_genai.models.builder", *map(str, words)]
        offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
        told = subprocess.run(command, env=offline, capture_output=True, text=True, check=False)
    if told.returncode != 0:
        hint = "see what it says; make setup installs onnxruntime-genai"
        last = (told.stderr.strip() or "it said nothing").splitlines()[-1].replace(str(source), source.name)
        raise UnavailableError(f"the builder failed: {last}", where=" ".join(command[1:4]), hint=hint)
