"""Faults in what has no weights to check: the activation and the norm."""

from __future__ import annotations

import numpy as np

from verify.faults.fault import Subject, fault
from verify.faults.surgery import Graft, attribute, operators, parts, read, read_instead, rewire, set_attribute, write


@fault(node=lambda at: at.layer(0).activation)
def exact_gelu(subject: Subject) -> None:
    """The exact GELU in the place of its approximation by tanh: they differ by less than 5e-4."""
    for node in operators(subject.model, "FastGelu"):
        node.op_type = "Gelu"


@fault(node=lambda at: at.layer(3).activation, magnitude=0.5)
def activation_clipped(subject: Subject, magnitude: float) -> None:
    """One activation is cut off above 10, or below if this is less than 1."""
    top = 10 * (1 - magnitude)

    def clipped(graft: Graft, right: str) -> str:
        return graft.op("Min", right, graft.number(np.float32(top)))

    rewire(subject.model, subject.at.layer(3).activation, clipped)


@fault(node=lambda at: at.layer(0).attention_norm, magnitude=1e-3)
def large_epsilon(subject: Subject, magnitude: float) -> None:
    """All norms divide by the root of the variance plus this much more than the config's epsilon."""
    if subject.at.epsilon is not None:
        write(subject.model, subject.at.epsilon, read(subject.model, subject.at.epsilon) + magnitude)
        return
    for node in operators(subject.model, "LayerNormalization"):
        set_attribute(node, "epsilon", attribute(node, "epsilon") + magnitude)


@fault(node=lambda at: at.final_norm)
def final_norm_of_the_first(subject: Subject) -> None:
    """The last norm uses the weights of the first."""
    for part in ("weight", "bias"):
        name = f"{subject.at.final_norm}.{part}"
        if parts(subject.model, name):
            read_instead(subject.model, name, f"{subject.at.layer(0).attention_norm}.{part}")


@fault(node=lambda at: at.layer(3).activation)
def activation_clipped_far_out(subject: Subject) -> None:
    """One activation is cut off above 12, where hardly a text comes."""
    rewire(subject.model, subject.at.layer(3).activation, lambda graft, right: graft.op("Min", right, graft.number(12)))
