"""Faults in what many architectures have and others have not: rotary positions, and a gate."""

from __future__ import annotations

import numpy as np

from model.landmarks import Landmarks
from verify.faults.fault import Subject, fault
from verify.faults.surgery import Graft, exchange, required, rewire


def _angles(at: Landmarks) -> str | None:
    return at.angles


def _pairs(subject: Subject) -> int:
    return subject.dims.head_dim // 2


@fault(node=_angles, magnitude=0.01)
def turned_too_far(subject: Subject, magnitude: float) -> None:
    """Every angle of the rotation is a little too large, as where a scaling of positions is off."""
    angles = required(subject.at.angles, "rotation")
    rewire(subject.model, angles, lambda graft, right: graft.op("Mul", right, graft.number(1 + magnitude)))


@fault(node=_angles)
def turned_backwards(subject: Subject) -> None:
    """Queries and keys are turned the other way round."""
    angles = required(subject.at.angles, "rotation")
    rewire(subject.model, angles, lambda graft, right: graft.op("Neg", right))


@fault(node=_angles)
def slowest_pair_not_turned(subject: Subject) -> None:
    """The pair of numbers that turns slowest is not turned at all: a late position alone shows it."""
    angles, kept = required(subject.at.angles, "rotation"), np.ones(_pairs(subject), np.float32)
    kept[-1] = 0

    def still(graft: Graft, right: str) -> str:
        return graft.op("Mul", right, graft.number(kept))

    rewire(subject.model, angles, still)


@fault(node=_angles)
def turned_as_the_next_pair(subject: Subject) -> None:
    """Every pair is turned by the angle of the next one."""
    angles, order = required(subject.at.angles, "rotation"), np.roll(np.arange(_pairs(subject), dtype=np.int64), -1)

    def moved(graft: Graft, right: str) -> str:
        return graft.op("Gather", right, graft.number(order, np.int64), axis=3)

    rewire(subject.model, angles, moved)


@fault(node=lambda at: at.layer(1).gate)
def gate_and_up_swapped(subject: Subject) -> None:
    """One layer's gate is what it should multiply, and the other way round."""
    layer = subject.at.layer(1)
    exchange(subject.model, required(layer.gate, "gate"), layer.up, made=True)
