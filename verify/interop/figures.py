"""The parts of the questions, and the figures with a tolerance that the answers of each come to.

A recipe that runs a runtime with a part must bound its figures. A runtime says which parts it answers.
"""

from __future__ import annotations

UNROUNDED = "unrounded"
FIGURES = {
    "texts": (("logits", "max_abs"), ("generation", "greedy_near_ties")),
    "strings": (),
    "sampling": (("logits", "max_abs"), ("generation", "sampling_near_ties")),
    "beams": (("logits", "max_abs"), ("generation", "beam_near_ties")),
    "passes": (("logits", "max_abs"), ("cache", "max_abs")),
    "spread": (("cache", "self_max_abs"),),
    "lengths": (("logits", "max_abs"), ("cache", "max_abs")),
    UNROUNDED: (("logits", "unrounded_max_abs"),),
}


def of_runtimes(check: str) -> set[str]:
    """Return the figures of a check that runtimes' answers come to. All are bounded above."""
    return {figure for figures in FIGURES.values() for own, figure in figures if own == check}
