"""Run files on the same chunks of texts, and compare their logits with the first file's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import report
from benchmarks.engine import Array
from benchmarks.graphs import unusable
from benchmarks.progress import progress
from quantize.runner import GraphRunner, Ids
from quantize.search.fidelity import Fidelity, divergences, fidelity


@dataclass(frozen=True)
class Compared:
    """One file's divergence from the first, by text."""

    path: Path
    found: Mapping[str, Fidelity]


def compare(paths: Sequence[Path], texts: Mapping[str, Sequence[int]], chunk: int, chunks: int) -> list[Compared]:
    """Score the second half of each chunk. InputError for a file that onnxruntime does not load or run."""
    plan = [(name, ids) for name, whole in texts.items() for ids in _spread(whole, chunk, chunks)]
    first, *others = [(path, _opened(path)) for path in paths]
    klds: list[dict[str, list[Array]]] = [{name: [] for name in texts} for _ in others]
    same: list[dict[str, list[Array]]] = [{name: [] for name in texts} for _ in others]
    for name, ids in progress("chunks", plan, len(plan)):
        reference = _logits(*first, ids)
        for number, other in enumerate(others):
            found = _logits(*other, ids)
            klds[number][name].append(divergences(reference, found))
            same[number][name].append(reference.argmax(axis=-1) == found.argmax(axis=-1))
    return [
        Compared(path, {name: fidelity(np.concatenate(kld[name]), np.concatenate(top[name])) for name in texts})
        for (path, _), kld, top in zip(others, klds, same, strict=True)
    ]


def table(compared: Sequence[Compared]) -> str:
    """Return Markdown: a row for each file, mean and 99.9 % divergence on each text."""
    heads = ["file", "bytes", *(f"{name}: mean, 99.9 %" for name in compared[0].found)]
    rows = []
    for entry in compared:
        figures = [f"{found.mean_kld:.2e}, {found.p999_kld:.1e}" for found in entry.found.values()]
        rows.append(["/".join(entry.path.parts[-4:]), f"{entry.path.stat().st_size:,}", *figures])
    return "\n".join(report.table(heads, rows))


def _spread(ids: Sequence[int], chunk: int, chunks: int) -> list[Ids]:
    """Chunks from the text's beginning to its end, at equal distances."""
    starts = np.linspace(0, len(ids) - chunk, chunks).astype(int)
    return [np.asarray(ids[start : start + chunk], np.int64) for start in dict.fromkeys(starts.tolist())]


def _opened(path: Path) -> GraphRunner:
    try:
        return GraphRunner(path)
    except Exception as error:  # onnxruntime raises classes of its own
        raise unusable(error, path) from error


def _logits(path: Path, runner: GraphRunner, ids: Ids) -> Array:
    """Logits float32 [chunk / 2, vocabulary] of the second half."""
    try:
        return runner.logits(ids, len(ids) // 2)
    except Exception as error:  # as above
        raise unusable(error, path) from error
