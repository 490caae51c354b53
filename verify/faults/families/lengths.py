"""Faults that are right up to a number of tokens and wrong beyond: kernels change where a tile or a group is full.

Each is planted for the checks, and for every runtime, whose own kernels may be at fault where onnxruntime's are not.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from model.contract import Dimensions
from verify.faults.families.conditions import block
from verify.faults.fault import EVERY, Subject, fault
from verify.faults.surgery import Graft, rewire, scaled_if

NEAR = 8  # tokens before the end of the context
Condition = Callable[[Graft, Dimensions], str]


def _declare(name: str, what: str, condition: Condition, runtime: str | None = EVERY) -> None:
    """Put a fault into the catalogue that scales block 2 where a condition on lengths holds."""

    def change(subject: Subject, magnitude: float) -> None:
        rewire(subject.model, block(subject.at), scaled_if(lambda graft: condition(graft, subject.dims), magnitude))

    change.__name__, change.__doc__ = name, f"Block 2 is scaled {what}."
    fault(node=block, magnitude=0.05, runtime=runtime)(change)


def _compare(graft: Graft, value: str, kind: str, number: int) -> str:
    return graft.op(kind, value, graft.number([number], np.int64))


def _read(low: int, high: int | None = None) -> Condition:
    """More than `low` tokens are read at once, and at most `high`; counted from the context's end if not positive."""

    def condition(graft: Graft, dims: Dimensions) -> str:
        size = graft.size("input_ids", 1)
        above = _compare(graft, size, "Greater", low if low > 0 else dims.context + low)
        return above if high is None else graft.op("And", above, _compare(graft, size, "LessOrEqual", high))

    return condition


def _decoded(low: int, high: int | None = None) -> Condition:
    """One token is read, and it and its past are more than `low` tokens, and at most `high`; as for `_read`."""

    def condition(graft: Graft, dims: Dimensions) -> str:
        one = _compare(graft, graft.size("input_ids", 1), "Equal", 1)
        total = graft.size("attention_mask", 1)
        found = graft.op("And", one, _compare(graft, total, "Greater", low if low > 0 else dims.context + low))
        return found if high is None else graft.op("And", found, _compare(graft, total, "LessOrEqual", high))

    return condition


def _padded(graft: Graft, dims: Dimensions) -> str:
    least = graft.op("ReduceMin", "attention_mask", graft.number([0, 1], np.int64), keepdims=0)
    return graft.op("And", graft.op("Equal", least, graft.number(0, np.int64)), _read(32)(graft, dims))


for _limit in (32, 64, 128):
    _declare(f"pass_beyond_{_limit}", f"when more than {_limit} tokens are read at once", _read(_limit))
    _declare(f"step_beyond_{_limit}", f"when one token is read after {_limit} or more", _decoded(_limit))
_declare("pass_near_the_context", "when a text nearly as long as the context is read at once", _read(-NEAR))
_declare("step_near_the_context", "when one token is read near the end of the context", _decoded(-NEAR))
_declare("only_passes_of_33_to_64", "when 33 to 64 tokens are read at once", _read(32, 64))
_declare("only_passes_of_65_to_128", "when 65 to 128 tokens are read at once", _read(64, 128))
_declare("only_steps_to_65_to_128", "when one token is read as the 65th to the 128th", _decoded(64, 128))
_declare("padded_pass_beyond_32", "when more than 32 tokens are read at once and a row of them is padded", _padded)
_declare("only_passes_of_127", "when exactly 127 tokens are read at once", _read(126, 127), None)
_declare("only_steps_to_129", "when one token is read as the 129th", _decoded(128, 129), None)
