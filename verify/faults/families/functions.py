"""Faults in what has no weights to check: the activation and the norm."""

from __future__ import annotations

import numpy as np

from verify.faults.fault import Subject, fault
from verify.faults.surgery import Graft, operators, rewire, set_attribute


@fault(node="transformer.h.0.mlp.act")
def exact_gelu(subject: Subject) -> None:
    """The exact GELU in the place of its approximation by tanh: they differ by less than 5e-4."""
    for node in operators(subject.model, "FastGelu"):
        node.op_type = "Gelu"


@fault(node="transformer.h.3.mlp.act", magnitude=0.5)
def activation_clipped(subject: Subject, magnitude: float) -> None:
    """One activation is cut off above 10, or below if this is less than 1."""
    top = 10 * (1 - magnitude)

    def clipped(graft: Graft, right: str) -> str:
        return graft.op("Min", right, graft.number(np.float32(top)))

    rewire(subject.model, "transformer.h.3.mlp.act", clipped)


@fault(node="transformer.h.0.ln_1", magnitude=1e-3)
def large_epsilon(subject: Subject, magnitude: float) -> None:
    """All norms divide by the root of the variance plus this much more than the config's epsilon."""
    for node in operators(subject.model, "LayerNormalization"):
        set_attribute(node, "epsilon", 1e-5 + magnitude)


@fault(node="transformer.ln_f")
def final_norm_of_the_first(subject: Subject) -> None:
    """The last norm uses the weights of the first."""
    node = operators(subject.model, "LayerNormalization")[-1]
    node.input[1], node.input[2] = "transformer.h.0.ln_1.weight", "transformer.h.0.ln_1.bias"


@fault(node="transformer.h.3.mlp.act")
def activation_clipped_far_out(subject: Subject) -> None:
    """One activation is cut off above 12, where hardly a text comes."""
    rewire(subject.model, "transformer.h.3.mlp.act", lambda graft, right: graft.op("Min", right, graft.number(12)))
