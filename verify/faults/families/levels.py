"""Faults that only an optimization level brings out."""

from __future__ import annotations

import onnx

from verify.faults.fault import Subject, fault
from verify.faults.surgery import Graft, rewire


@fault(node="sequence_length")
def only_at_enable_all(subject: Subject) -> None:
    """A value is annotated with a length that it has not: constant folding believes it, plain execution does not."""
    model = subject.model

    def annotated(graft: Graft, _: str) -> str:
        doubled = graft.op("Add", "input_ids", "input_ids")
        kind = onnx.TensorProto.INT64
        model.graph.value_info.append(onnx.helper.make_tensor_value_info(doubled, kind, ["batch_size", 7]))
        return graft.op("Shape", doubled, start=1, end=2)

    rewire(model, "sequence_length", annotated)
