"""Let a model write its own calibration text: tokens drawn from the distribution that it gives.

Source: Liu et al., "LLM-QAT: Data-Free Quantization Aware Training for Large Language Models", 2023. Such text has no
licence, is of every kind that the model was trained on, and of nothing else.
"""

from __future__ import annotations

import importlib.metadata
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from filelock import FileLock
from tqdm import tqdm

from model import external_data, generation
from model.session import open_session
from pipeline.canonical import digest, file_digest, read_json
from pipeline.errors import InputError
from quantize.numerics.blocks import Floats
from quantize.runner import Ids, empty_cache

ROWS = 16  # texts written side by side: their caches are in memory twice


@dataclass(frozen=True)
class Draws:
    """State how much is drawn: texts, tokens in each, and the seed that decides which."""

    rows: int
    length: int
    seed: int


def first_token(model: Path, vocabulary: int) -> int:
    """The token that texts begin with: the model's for beginnings, or else that of a text's end, which one follows.

    InputError when the model's directory names neither.
    """
    path = model / generation.FILE
    settings = read_json(path)
    named = [
        token for key in ("bos_token_id", "eos_token_id") for token in generation.ids(settings.get(key), vocabulary)
    ]
    if not named:
        hint = "leave sampled out of [calibration], or name bos_token_id in the source's generation_config.json"
        raise InputError("no token to begin a text with", where=path, hint=hint)
    return named[0]


def sampled(graph: Path, begin: int, draws: Draws, work: Path | None) -> Ids:
    """Texts of the model's own, int64 [rows, length], each from the token `begin` on.

    Found in `work` where an earlier run has left them. The same on every run on one kind of processor: another's
    rounding moves a probability in its last bits, and now and then a token with it.
    """
    key = {"graph": external_data.digests(graph), "begin": begin, **asdict(draws), "code": file_digest(Path(__file__))}
    name = digest({**key, "onnxruntime": importlib.metadata.version("onnxruntime")})
    kept = None if work is None else work / f"sampled-{name[:16]}.npy"
    if kept is None:
        return _written(graph, begin, draws)
    kept.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(kept.with_suffix(".lock")):  # variants that are quantized at the same time wait for one text
        if not kept.is_file():
            part = kept.with_suffix(".part")
            with part.open("wb") as stream:
                np.save(stream, _written(graph, begin, draws))
            part.replace(kept)
    found: Ids = np.load(kept)
    return found


def _written(graph: Path, begin: int, draws: Draws) -> Ids:
    session = open_session(graph)
    generator = np.random.default_rng(draws.seed)
    texts = np.full((draws.rows, draws.length), begin, np.int64)
    total = -(-draws.rows // ROWS) * (draws.length - 1)
    with tqdm(total=total, desc="sample", unit="token", file=sys.stderr, leave=False, disable=None) as progress:
        for start in range(0, draws.rows, ROWS):
            group = texts[start : start + ROWS]
            cache: dict[str, Any] = empty_cache(session, len(group))
            for at in range(1, draws.length):
                logits, cache = _next(session, group[:, :at], cache)
                group[:, at] = drawn(logits, generator.random(len(group)))
                progress.update()
    return texts


def _next(session: onnxruntime.InferenceSession, ids: Ids, cache: dict[str, Any]) -> tuple[Floats, dict[str, Any]]:
    """Logits float32 [rows, vocabulary] after the last of ids [rows, read], and the cache with it."""
    rows, read = ids.shape
    feeds = {"input_ids": ids[:, -1:], "attention_mask": np.ones((rows, read), np.int64), **cache}
    names = [port.name for port in session.get_inputs()]
    if "position_ids" in names:
        feeds["position_ids"] = np.full((rows, 1), read - 1, np.int64)
    logits, *present = session.run(None, feeds)
    return logits[:, -1], dict(zip(cache, present, strict=True))


def drawn(logits: Floats, shares: np.typing.NDArray[np.float64]) -> Ids:
    """One token of each row's distribution [rows, vocabulary]: the one at which the sum passes that share of it."""
    found = []
    for row, share in zip(logits, shares, strict=True):  # all rows at once would be four times the logits' memory
        sums = np.exp(row - row.max(), dtype=np.float64).cumsum()
        found.append(sums.searchsorted(share * sums[-1], side="right"))
    return np.array(found, np.int64)
