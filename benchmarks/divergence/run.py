"""Run files on the same chunks of texts, and compare their logits with the first file's."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from benchmarks import onnx_session, report
from benchmarks.engine import Array, Runner
from benchmarks.graphs import shown, unusable
from benchmarks.progress import progress
from model.divergence import divergences
from pipeline.errors import InputError


@dataclass(frozen=True)
class Compared:
    """One file's divergence from the first, in nats: by text, of each scored token."""

    path: Path
    klds: Mapping[str, Array]


def token_ids(path: Path, tokenizer: Path) -> list[int]:
    """The ids of a UTF-8 text without special tokens. InputError for a text or a tokenizer that cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read: {error}", where=path, hint="name a UTF-8 text file") from error
    try:
        return list(Tokenizer.from_file(str(tokenizer)).encode(text, add_special_tokens=False).ids)
    except Exception as error:  # tokenizers raises plain Exception
        hint = "name the model's tokenizer.json with --tokenizer"
        raise InputError(f"no tokenizer: {error}", where=tokenizer, hint=hint) from error


def compare(paths: Sequence[Path], texts: Mapping[str, Sequence[int]], chunk: int, chunks: int) -> list[Compared]:
    """Score the second half of each chunk. InputError for a file that onnxruntime does not load or run."""
    plan = [(name, ids) for name, whole in texts.items() for ids in _spread(whole, chunk, chunks)]
    first, *others = [(path, _opened(path)) for path in paths]
    klds: list[dict[str, list[Array]]] = [{name: [] for name in texts} for _ in others]
    for name, ids in progress("chunks", plan, len(plan)):
        reference = _logits(*first, ids)
        for number, other in enumerate(others):
            klds[number][name].append(divergences(reference, _logits(*other, ids)))
    return [
        Compared(path, {name: np.concatenate(found) for name, found in kld.items()})
        for (path, _), kld in zip(others, klds, strict=True)
    ]


def table(compared: Sequence[Compared]) -> str:
    """Return Markdown: a row for each file, mean and 99.9 % quantile of the divergence on each text."""
    heads = ["file", "bytes", *(f"{name}: mean, 99.9 %" for name in compared[0].klds)]
    rows = []
    for entry in compared:
        figures = [f"{kld.mean():.2e}, {np.quantile(kld, 0.999):.1e}" for kld in entry.klds.values()]
        rows.append([shown(entry.path), f"{entry.path.stat().st_size:,}", *figures])
    return "\n".join(report.table(heads, rows))


def _spread(ids: Sequence[int], chunk: int, chunks: int) -> list[Array]:
    """Chunks from the text's beginning to its end, at equal distances."""
    starts = np.linspace(0, len(ids) - chunk, chunks).astype(int)
    return [np.asarray(ids[start : start + chunk], np.int64) for start in dict.fromkeys(starts.tolist())]


def _opened(path: Path) -> Runner:
    try:
        return onnx_session.load(path, path.name, len(os.sched_getaffinity(0)))
    except Exception as error:  # onnxruntime raises classes of its own
        raise unusable(error, path) from error


def _logits(path: Path, runner: Runner, ids: Array) -> Array:
    """Logits float32 [chunk / 2, vocabulary] of the second half."""
    try:
        return runner.logits(ids)[-(len(ids) // 2) :]
    except Exception as error:  # as above
        raise unusable(error, path) from error
