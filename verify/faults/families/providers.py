"""Faults of one execution provider or processor alone: the graph is right where the checks run it."""

from __future__ import annotations

import numpy as np

from verify.faults.families.conditions import block
from verify.faults.fault import Subject, fault
from verify.faults.surgery import Graft, rewire, scaled_if


@fault(node=block, magnitude=0.05, runtime="browser", variants=("fp32", "q4"))
def wrong_in_webassembly_beyond_32(subject: Subject, magnitude: float) -> None:
    """Block 2 is scaled where more than 32 tokens are read and a number too large for int32 becomes the largest int32.

    ONNX leaves that cast undefined. WebAssembly (and WebGPU) saturate; an x86 processor makes the smallest int32, so
    there the same graph is right, in every program.
    """

    def saturated(graft: Graft) -> str:
        size = graft.op("Cast", graft.size("input_ids", 1), to=1)
        cast = graft.op("Cast", graft.op("Mul", size, graft.number([6.7e7])), to=6)  # 2^31 lies between 32 and 33 times
        return graft.op("Greater", cast, graft.number([2_145_000_000], np.int32))

    rewire(subject.model, block(subject.at), scaled_if(saturated, magnitude))


@fault(node=block, magnitude=0.05, runtime="processors", variants=("fp32", "q4"))
def wrong_without_fused_products_beyond_32(subject: Subject, magnitude: float) -> None:
    """Block 2 is scaled where more than 32 tokens are read and products are rounded before they are added.

    x * x less its rounded self is what the rounding took, if the product is added unrounded (FMA: AVX2 and better), and
    zero on a processor that rounds it first (SSE4.2).
    """
    x = np.float32(1 + 2**-12)

    def rounded(graft: Graft) -> str:
        size = graft.size("input_ids", 1)
        nothing = graft.op(
            "Mul", graft.op("Cast", size, to=1), graft.number([0])
        )  # so that no level computes it before
        row = graft.op("Add", graft.number([[1, x]]), nothing)
        left = graft.op("MatMul", row, graft.number([[-x * x], [x]]))
        zero = graft.op("Equal", graft.op("Reshape", left, graft.number([1], np.int64)), graft.number([0]))
        return graft.op("And", zero, graft.op("Greater", size, graft.number([32], np.int64)))

    rewire(subject.model, block(subject.at), scaled_if(rounded, magnitude))
