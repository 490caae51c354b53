"""Calibrate on a tiny model with a tokenizer of one token for each number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from model.contract import Dimensions
from pipeline.recipe.recipe import LARGEST_FILE
from quantize.calibration import Calibration
from quantize.scheme import Context
from tests.support.tiny_graph import DIMS, tiny_model


def tokenizer(vocabulary: int) -> bytes:
    """tokenizer.json with one token for each number below `vocabulary`."""
    model = {"type": "WordLevel", "vocab": {str(i): i for i in range(vocabulary)}, "unk_token": "0"}
    whole = {"version": "1.0", "added_tokens": [], "model": model, "pre_tokenizer": {"type": "WhitespaceSplit"}}
    rest = dict.fromkeys(("truncation", "padding", "normalizer", "post_processor", "decoder"))
    return json.dumps({**whole, **rest}).encode()


def write_tokenizer(path: Path, vocabulary: int) -> Path:
    path.write_bytes(tokenizer(vocabulary))
    return path


def write_text(path: Path, tokens: int, vocabulary: int = DIMS.vocabulary) -> Path:
    generator = np.random.default_rng(5)
    path.write_text(" ".join(map(str, (generator.random(tokens) ** 2 * vocabulary).astype(int))))
    return path


def make_context(home: Path, dims: Dimensions = DIMS, tokens: int = 1200, **settings: Any) -> Context:
    home.mkdir(exist_ok=True)
    onnx.save(tiny_model(dims), home / "model.onnx")
    text, words = write_text(home / "text.txt", tokens), write_tokenizer(home / "tokenizer.json", dims.vocabulary)
    chunks = {"chunk": 16, "chunks": 8, **settings}
    calibration = Calibration((text,), home / "model.onnx", words, dims, **chunks)
    return Context(dims, home / "model.onnx", calibration, home / "work", LARGEST_FILE)


def calibration_of(context: Context) -> Calibration:
    return context.calibrated("test")
