"""Run a graph on token ids: one session on the CPU, fed from the first token on with an empty cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime

from model.contract import CACHE_IN, LOGITS_TO_KEEP
from model.external_data import open_model
from model.session import open_session
from quantize.numerics.blocks import Floats

Ids = npt.NDArray[np.int64]


def empty_cache(session: onnxruntime.InferenceSession, rows: int) -> dict[str, Floats]:
    """The cache inputs of a graph that has read nothing, float32 [rows, heads, 0, head_dim], by name."""
    ports = (port for port in session.get_inputs() if port.name.startswith(CACHE_IN))
    return {port.name: np.zeros((rows, port.shape[1], 0, port.shape[3]), np.float32) for port in ports}


class GraphRunner:
    """A session, and how to feed it one sequence."""

    def __init__(self, model: ir.Model | Path) -> None:
        self.session = open_model(model) if isinstance(model, ir.Model) else open_session(model)
        ports = (*self.session.get_inputs(), *self.session.get_overridable_initializers())
        self.inputs = {port.name for port in ports}

    def run(
        self, outputs: Sequence[str], ids: Ids, keep: int = 0, weights: Mapping[str, Any] | None = None
    ) -> list[Floats]:
        """The named outputs for ids [length]; `weights` are those that are graph inputs, and may be more than those.

        `keep` asks for the logits of the last positions only, where the graph can.
        """
        whole = ids[None]
        feeds: dict[str, Any] = {"input_ids": whole, "attention_mask": np.ones_like(whole)}
        feeds["position_ids"] = np.arange(len(ids), dtype=np.int64)[None]
        feeds |= {**empty_cache(self.session, 1), LOGITS_TO_KEEP: np.array(keep, np.int64), **(weights or {})}
        found: list[Floats] = self.session.run(
            list(outputs), {name: feeds[name] for name in feeds.keys() & self.inputs}
        )
        return found

    def logits(self, ids: Ids, keep: int, weights: Mapping[str, Any] | None = None) -> Floats:
        """Logits float32 [keep, vocabulary] of the last `keep` positions."""
        return self.run(["logits"], ids, keep, weights)[0][0, -keep:]
