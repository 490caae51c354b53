"""Call a session whose cache may stay in place as onnxruntime-genai does: past and present are one buffer.

The buffer has more slots than the text needs, and those beyond it hold NaN: what reads one is seen at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from onnxruntime import InferenceSession, OrtValue

from model.contract import CACHE_IN, CACHE_OUT, LOGITS_TO_KEEP
from model.session import run_into
from verify.check import Array

LOGITS = "logits"
SPARE = 3  # slots


def run(session: InferenceSession, names: Sequence[str], feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Return the outputs of these names, the cache's as long as the text, as if it had been returned grown.

    feeds: input_ids int64 [batch, sequence]; the cache float [batch, heads, past, width]; attention_mask int64 [batch,
    past + sequence]; how many positions get logits, 0 for all.
    """
    batch, sequence = feeds["input_ids"].shape
    total = feeds["attention_mask"].shape[1]
    made, given = dict[str, Array](), dict(feeds)
    for name in (name for name in feeds if name.startswith(CACHE_IN)):
        _, heads, past, width = feeds[name].shape
        buffer = np.full((batch, heads, total + SPARE, width), np.nan, feeds[name].dtype)
        buffer[:, :, :past] = feeds[name]
        given[name] = made[name.replace(CACHE_IN, CACHE_OUT)] = buffer
    vocabulary = next(port.shape[-1] for port in session.get_outputs() if port.name == LOGITS)
    kept = int(feeds.get(LOGITS_TO_KEEP, 0)) or sequence
    made[LOGITS] = np.empty((batch, min(kept, sequence), vocabulary), np.float32)
    values = {name: OrtValue.ortvalue_from_numpy(array) for name, array in given.items()}
    results = {name: OrtValue.ortvalue_from_numpy(made[name]) for name in names}
    run_into(session, values, results)
    return {name: made[name] if name == LOGITS else made[name][:, :, :total] for name in names}
