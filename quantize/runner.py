"""Run a graph on token ids: one session on the CPU, fed from the first token on with an empty cache."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime

from model.contract import LOGITS_TO_KEEP
from quantize.numerics.blocks import Floats
from quantize.rewrite.weights import Weights, tensor_of

Ids = npt.NDArray[np.int64]
CACHE = "past_key_values."


def weights_as_inputs(model: ir.Model, weights: Weights, others: Iterable[ir.Value] = ()) -> dict[str, Floats]:
    """Make inputs of the weights that anything reads, and return their numbers: a session needs no copy then."""
    found = {}
    values = [weight.value for weight in (*weights.body, *weights.tables, *weights.lookups)]
    for value in dict.fromkeys([*values, *others]):
        if value.uses():
            found[str(value.name)] = tensor_of(value).numpy()
            del model.graph.initializers[str(value.name)]
            value.const_value = None
            model.graph.inputs.append(value)
    return found


class Runner:
    """A session, and how to feed it one sequence. `weights` are the inputs that `weights_as_inputs` made."""

    def __init__(self, model: ir.Model | Path, weights: Mapping[str, Floats] | None = None) -> None:
        self.weights = dict(weights or {})
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        source = ir.to_proto(model).SerializeToString() if isinstance(model, ir.Model) else str(model)
        self.session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        self.optional = {port.name for port in self.session.get_overridable_initializers()}

    def run(
        self, outputs: Sequence[str], ids: Ids, keep: int = 0, weights: Mapping[str, Any] | None = None
    ) -> list[Floats]:
        """The named outputs for ids [length]; `weights` takes the place of some of the runner's own.

        `keep` asks for the logits of the last positions only, where the graph can.
        """
        whole = ids[None]
        feeds: dict[str, Any] = {"input_ids": whole, "attention_mask": np.ones_like(whole)}
        feeds["position_ids"] = np.arange(len(ids), dtype=np.int64)[None]
        for port in self.session.get_inputs():
            if port.name.startswith(CACHE):
                feeds[port.name] = np.zeros((1, port.shape[1], 0, port.shape[3]), np.float32)
        declared = {port.name for port in self.session.get_inputs()}
        feeds = {name: value for name, value in feeds.items() if name in declared}
        if LOGITS_TO_KEEP in self.optional:
            feeds[LOGITS_TO_KEEP] = np.array(keep, np.int64)
        found: list[Floats] = self.session.run(list(outputs), {**feeds, **self.weights, **(weights or {})})
        return found

    def logits(self, ids: Ids, keep: int, weights: Mapping[str, Any] | None = None) -> Floats:
        """Logits float32 [keep, vocabulary] of the last `keep` positions."""
        return self.run(["logits"], ids, keep, weights)[0][0, -keep:]
