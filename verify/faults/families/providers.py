"""Faults of one execution provider alone: the graph is right where the checks run it."""

from __future__ import annotations

import numpy as np

from verify.faults.fault import Subject, fault
from verify.faults.surgery import Graft, rewire, scaled_if

BLOCK = "transformer.h.2"  # what block 2 leaves in the residual stream, float32 in every variant


@fault(node=BLOCK, magnitude=0.05, runtime="browser", variants=("fp32", "q4"))
def wrong_in_webassembly_beyond_32(subject: Subject, magnitude: float) -> None:
    """Block 2 is scaled where more than 32 tokens are read and a number too large for int32 becomes the largest int32.

    ONNX leaves that cast undefined. WebAssembly (and WebGPU) saturate; an x86 processor makes the smallest int32, so
    there the same graph is right, in every program.
    """

    def saturated(graft: Graft) -> str:
        size = graft.op("Cast", graft.size("input_ids", 1), to=1)
        cast = graft.op("Cast", graft.op("Mul", size, graft.number([6.7e7])), to=6)  # 2^31 lies between 32 and 33 times
        return graft.op("Greater", cast, graft.number([2_145_000_000], np.int32))

    rewire(subject.model, BLOCK, scaled_if(saturated, magnitude))
