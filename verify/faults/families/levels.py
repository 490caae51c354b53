"""Faults that only an optimization level brings out."""

from __future__ import annotations

import numpy as np
import onnx

from verify.faults.families.conditions import block
from verify.faults.fault import Subject, fault
from verify.faults.surgery import Graft, rewire, scaled_if


@fault(node=block, magnitude=0.05)
def only_at_enable_all(subject: Subject, magnitude: float) -> None:
    """A value is annotated with a shape left over from an export: constant folding believes it, execution does not.

    The length that is measured there is right without optimization and 7 with it; where it is wrong, block 2 is scaled.
    """

    def misled(graft: Graft) -> str:
        whole = graft.op("Mul", graft.op("Shape", "input_ids"), graft.number([1, 1], np.int64))
        same = graft.op("Reshape", "input_ids", whole)
        kind = onnx.TensorProto.INT64
        subject.model.graph.value_info.append(onnx.helper.make_tensor_value_info(same, kind, [1, 7]))
        return graft.op("Not", graft.op("Equal", graft.size(same, 1), graft.size("input_ids", 1)))

    rewire(subject.model, block(subject.at), scaled_if(misled, magnitude))
